# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree of a VM's points, over the API and on the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from command_line import runner, write_options
from sample_store import KIB, SampleStore, Write
from serving import Served

from livebackup_receiver.decisions import drop_points
from livebackup_receiver.model import Point, Role

DB = ("db", "vd-a")


def two_heads(server: Served) -> list[Point]:
    """Three points in a line, and a fourth on the first."""
    store = SampleStore(server.receiver.store.root, server.receiver.catalog)
    first = store.add({DB: [Write(0, 64 * KIB, 1)]})
    then = store.content[DB]
    line = [first, *(store.add({DB: [Write(0, 64 * KIB, value)]}) for value in (2, 3))]
    store.restored(first, then)
    return [*line, store.add({DB: [Write(64 * KIB, 64 * KIB, 4)]})]


async def test_the_tree_shows_both_heads_and_where_they_part(server: Served) -> None:
    first, second, third, fourth = two_heads(server)
    async with server.client(Role.READ) as client:
        [tree] = (await client.get("/api/v1/vms/db/tree")).json()["trees"]
    assert tree["disks"] == ["vd-a"]
    assert tree["heads"] == [fourth.id, third.id]
    assert tree["forks"] == [first.id]
    parents = {each["point"]: each["parent"] for each in tree["points"]}
    assert parents == {fourth.id: first.id, third.id: second.id, second.id: first.id, first.id: None}


async def test_a_point_that_others_need_is_shown_as_expired(server: Served) -> None:
    first, *dummy = two_heads(server)
    drop_points(server.receiver.catalog, server.receiver.store, [first.id], now=datetime.now(UTC))
    async with server.client(Role.READ) as client:
        [tree] = (await client.get("/api/v1/vms/db/tree")).json()["trees"]
    assert [each["point"] for each in tree["points"] if each["dropped"]] == [first.id]


async def test_an_unknown_vm_has_none(server: Served) -> None:
    async with server.client(Role.READ) as client:
        answer = await client.get("/api/v1/vms/nobody/tree")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "vm-unknown")


async def test_the_command_draws_it(server: Served, tmp_path: Path) -> None:
    points = two_heads(server)
    run = runner(write_options(server.receiver.config, tmp_path / "receiver.toml"), "points", "--tree")
    shown = run("--vm", "db").stdout.splitlines()
    assert [line.split()[0] for line in shown[2:]] == ["●", "│", "│", "●─┘"]
    assert [points[3].id in shown[2], points[0].id in shown[5]] == [True, True]
    assert [line.endswith("head") for line in shown[2:]] == [True, True, False, False]
    unnamed = run()
    assert unnamed.returncode == 2
    assert "name it with --vm" in unnamed.stderr
