# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions whose VMs do not all come, or get lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypervisor import Hypervisor, back_up_together, open_session
from serving import Served
from two_hosts import ended, files_of, make_disks, make_hosts, vms_of

from livebackup_receiver.model import Role, Session


@pytest.fixture
async def client(server: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with server.client() as client:
        yield client


@pytest.fixture
def hosts(client: httpx.AsyncClient, tmp_path: Path) -> list[Hypervisor]:
    return make_hosts(client, make_disks(tmp_path))


async def run(client: httpx.AsyncClient, server: Served, hosts: list[Hypervisor], **options: Any) -> Session:
    return await ended(client, server, await back_up_together(client, hosts, **options))


async def point_of(server: Served, session: Session) -> dict[str, Any]:
    async with server.client(Role.READ) as reader:
        answer: dict[str, Any] = (await reader.get(f"/api/v1/points/{session.id}")).json()
        return answer


async def test_a_vm_that_vanished_ends_the_session_until_it_is_forgotten(
    server: Served, client: httpx.AsyncClient, hosts: list[Hypervisor]
) -> None:
    hosts[1].vms["shop"] = {"vd-a": hosts[0].vms["db"].pop("vd-b")}
    assert (await run(client, server, hosts)).state == "committed"
    shop = hosts[1].vms.pop("shop")
    lost = await run(client, server, hosts)
    assert lost.state == "aborted"
    assert "not there now: VM shop (hv2 did not report it" in (lost.reason or "")
    assert [(each.vm, each.host) for each in lost.missing] == [("shop", "hv2")]
    assert files_of(server, lost.id) == []
    forgotten = await run(client, server, hosts, forget_vms=["sh*"])
    assert (forgotten.state, forgotten.missing) == ("committed", [])
    assert (await point_of(server, forgotten))["complete"]
    assert (await run(client, server, hosts)).state == "committed"
    hosts[0].vms["shop"] = shop
    assert (await run(client, server, hosts)).state == "committed"


async def test_a_vm_that_moved_to_another_host_is_not_missing(
    server: Served, client: httpx.AsyncClient, hosts: list[Hypervisor]
) -> None:
    hosts[1].vms["shop"] = {"vd-a": hosts[0].vms["db"].pop("vd-b")}
    await run(client, server, hosts)
    hosts[0].vms["shop"] = hosts[1].vms.pop("shop")
    moved = await run(client, server, hosts)
    assert (moved.state, moved.missing) == ("committed", [])
    assert {disk.level for disk in moved.disks} == {"incremental"}


async def test_each_names_what_is_missing_for_as_long_as_it_is(
    server: Served, client: httpx.AsyncClient, hosts: list[Hypervisor]
) -> None:
    await run(client, server, hosts)
    for dummy in range(2):
        record = await run(client, server, hosts[:1], policy="each")
        point = await point_of(server, record)
        assert list(vms_of(point)) == ["db"]
        assert not point["complete"]
        assert point["missing"] == [{"vm": "web", "host": "hv2", "reason": "its host hv2 takes no part"}]
        assert [(each.subject, each.reason) for each in record.transitions if each.to == "missing"] == [
            ("web", "its host hv2 takes no part")
        ]
    back = await run(client, server, hosts)
    assert (await point_of(server, back))["complete"]


async def test_each_does_not_commit_without_a_required_vm_that_fails_late(
    server: Served, client: httpx.AsyncClient, hosts: list[Hypervisor]
) -> None:
    session = await open_session(
        client, ["hv1", "hv2"], policy="each", required_vms=["web"], stop_budget_s=0.1
    )

    async def fail_late() -> None:
        plan = (await hosts[1].join(session))["plan"]
        await hosts[1].cut(session)
        await hosts[1].step(session, "failed", {"reason": f"out of scratch in {plan['point']}"}, 0)

    await asyncio.gather(hosts[0].back_up(session), fail_late())
    record = await ended(client, server, session)
    assert record.state == "aborted"
    assert "required and not there: VM web (out of scratch" in (record.reason or "")
    assert files_of(server, session) == []


@pytest.mark.parametrize(("minimum", "state"), [(2, "committed"), (3, "aborted")])
async def test_a_session_with_too_few_vms_ends_before_anything_is_stopped(
    server: Served, client: httpx.AsyncClient, hosts: list[Hypervisor], minimum: int, state: str
) -> None:
    record = await run(client, server, hosts, min_vms=minimum)
    assert record.state == state
    assert ("stopping" in {each.to for each in record.transitions}) == (state == "committed")
