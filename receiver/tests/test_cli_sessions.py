# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands about sessions, beside a receiver that runs, and without one."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from command_line import Result, run_command
from hypervisor import back_up_together, open_session
from receiver_process import on_free_port, receiver_process
from two_hosts import make_disks, make_hosts

from livebackup_receiver.catalog import tokens
from livebackup_receiver.catalog.engine import open_catalog
from livebackup_receiver.config import Config

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def config(config: Config) -> Config:
    return on_free_port(config)


async def cli(config: Config, *arguments: str) -> Result:
    return await run_command(config.store.parent / "receiver.toml", "session", *arguments)


def token_names(config: Config) -> list[str]:
    with open_catalog(config.database_url) as catalog, catalog.read() as db:
        return [token.name for token in tokens.every(db)]


async def test_a_session_that_waits_says_for_whom(config: Config, tmp_path: Path) -> None:
    async with receiver_process(config) as receiver, receiver.client() as client:
        hv1, hv2 = make_hosts(client, make_disks(tmp_path))
        session = await open_session(client, ["hv1", "hv2"])
        joining = asyncio.create_task(hv1.join(session))
        shown = (await cli(config, "show", session)).words
        assert f"Session {session} of group nightly: joining, policy all" in shown
        assert "hv2 to be joined" in shown
        assert "hv2 not joined" in shown
        await asyncio.gather(joining, hv2.join(session))
        facts = (await cli(config, "show", session, "--json")).json
        shown = (await cli(config, "show", session)).words
        listed = (await cli(config, "list", "--open", "--json")).json["sessions"]
    actors = {actor["name"]: actor for actor in facts["actors"]}
    assert actors["coordinator"]["waits_for"] == "hv1, hv2 to be prepared"
    assert (actors["hv1"]["state"], actors["hv1"]["said"]) == ("joined", "told to prepare")
    assert actors["storage daemon"]["said"] == "block-export-add is done"
    assert {disk["level"] for disk in facts["session"]["disks"]} == {"full"}
    assert "db/vd-a hv1 full (first backup of this disk) planned" in shown
    assert [each["id"] for each in listed] == [session]
    assert token_names(config) == ["backup-0"]


async def test_an_operator_ends_a_session(config: Config, tmp_path: Path) -> None:
    async with receiver_process(config) as receiver, receiver.client() as client:
        hosts = make_hosts(client, make_disks(tmp_path))
        session = await open_session(client, ["hv1", "hv2"])
        waiting = asyncio.create_task(hosts[0].join(session))
        result = await cli(config, "abort", session, "--reason", "hv2 burns")
        answer = await waiting
        listed = (await cli(config, "list")).words
        unknown = await cli(config, "abort", "01ARZ3NDEKTSV4RRFFQ69G5FAV")
        committed = await back_up_together(client, hosts)
        late = await cli(config, "abort", committed)
    assert "is aborted: aborted on request: hv2 burns" in result.words
    assert (answer["order"], "hv2 burns" in answer["reason"]) == ("abort", True)
    assert f"{session} nightly" in listed
    assert "hv2 burns" in listed
    assert (unknown.code, "does not exist" in unknown.err) == (5, True)
    assert (late.code, f"session {committed} is committed" in late.err) == (6, True)


async def test_the_catalog_answers_if_no_receiver_runs(config: Config, tmp_path: Path) -> None:
    async with receiver_process(config) as receiver:
        async with receiver.client() as client:
            hosts = make_hosts(client, make_disks(tmp_path))
            session = await open_session(client, ["hv1", "hv2"])
            await asyncio.gather(*(host.join(session) for host in hosts))
        await receiver.end(signal.SIGKILL)
        shown = await cli(config, "show", session)
        listed = await cli(config, "list", "--json")
        refused = await cli(config, "abort", session)
    assert f"Session {session} of group nightly" in shown.words
    assert "so this is what the catalog says" in shown.err
    assert [each["id"] for each in listed.json["sessions"]] == [session]
    assert (refused.code, "no receiver answers at 127.0.0.1" in refused.err) == (3, True)
