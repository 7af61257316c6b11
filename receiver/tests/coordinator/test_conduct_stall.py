# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Participants that go on talking but make no progress."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from hypervisor import MIB, Hypervisor, open_session
from serving import Served
from two_hosts import ended, files_of, get_session, make_disks, make_hosts
from waiting import until

from livebackup_receiver.config import Config
from livebackup_receiver.events import SessionChanged
from livebackup_receiver.model import Session


@pytest.fixture
def config(config: Config) -> Config:
    """A receiver that is soon alarmed, and not long after has had enough."""
    return config.model_copy(update={"stall_alarm_s": 1.0, "stall_abort_s": 4.0})


async def stand_still(host: Hypervisor, session: str) -> None:
    """Take part, and from the transfer on say the same thing again and again, until the session ends."""
    await host.join(session)
    answer = await host.cut(session)
    disks = [
        {"vm": vm, "disk": disk, "done_bytes": MIB, "total_bytes": 16 * MIB, "sent_bytes": MIB}
        for vm, disks in host.vms.items()
        for disk in disks
    ]
    while answer["order"] in ("transfer", "wait"):
        answer = await host.step(session, "transferring", {"disks": disks}, 0)
        await asyncio.sleep(0.1)
    await host.finish(session, committed=False)


async def alarmed(client: httpx.AsyncClient, session: str) -> Session:
    async def look() -> Session | None:
        record = await get_session(client, session)
        return record if record.alarm else None

    return await until(look)


async def test_a_host_without_progress_raises_an_alarm_and_then_ends_the_session(
    server: Served, tmp_path: Path
) -> None:
    async with server.client() as client:
        hosts = make_hosts(client, make_disks(tmp_path))
        session = await open_session(client, ["hv1", "hv2"])
        changes: list[SessionChanged] = []
        with server.receiver.feed.subscribe() as feed:
            run = asyncio.gather(hosts[0].back_up(session), stand_still(hosts[1], session))
            record = await alarmed(client, session)
            await run
            feed.put(None)
            changes = [change async for change in feed]
        end = await ended(client, server, session)
    assert record.state == "transferring"
    assert "no progress of hv2 for 1 seconds, and is given up after 4; look at hv2" in (record.alarm or "")
    assert "web/vd-a" in (record.alarm or "")
    assert [change.alarm for change in changes if change.alarm] == [record.alarm]
    assert end.state == "aborted"
    assert "hv2 made no progress for 4 seconds with web/vd-a" in (end.reason or "")
    assert files_of(server, session) == []


async def test_each_goes_on_without_the_host(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        hosts = make_hosts(client, make_disks(tmp_path))
        session = await open_session(client, ["hv1", "hv2"], policy="each")
        answer, dummy = await asyncio.gather(hosts[0].back_up(session), stand_still(hosts[1], session))
        end = await ended(client, server, session)
    assert answer["order"] == "finish"
    assert (end.state, end.alarm) == ("committed", None)
    assert {disk.vm: disk.state for disk in end.disks} == {"db": "sealed", "web": "failed"}
    assert "made no progress" in next(each.reason or "" for each in end.participants if each.host == "hv2")


async def test_an_alarm_ends_with_progress(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        host = make_hosts(client, make_disks(tmp_path))[1]
        session = await open_session(client, ["hv2"])
        plan = (await host.join(session))["plan"]
        await host.cut(session)
        await alarmed(client, session)
        await host.transfer(session, plan)
        assert (await ended(client, server, session)).state == "committed"
