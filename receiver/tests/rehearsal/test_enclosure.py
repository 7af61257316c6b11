# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing gets out of the enclosure: no packet, no write to a file, no signal."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest

from livebackup_receiver.errors import CommandFailed
from livebackup_receiver.recovery.declared import read_plan
from livebackup_receiver.rehearsal.enclosure import enclosed
from livebackup_receiver.rehearsal.network import cards_of, commands, way_out
from livebackup_receiver.subprocesses import run

PLAN = read_plan({"members": [{"vm": "db"}, {"vm": "app"}], "network": {"address": "10.0.0.1/24"}})
CARDS = cards_of(PLAN, ["db", "app"])
RUN_S = 60.0


async def inside(directory: Path, script: str) -> str:
    """What a shell says in an enclosure."""
    return (await run(enclosed(["sh", "-c", script], directory), timeout_s=RUN_S)).stdout


async def test_there_is_no_link_and_no_route_but_its_own(tmp_path: Path) -> None:
    assert PLAN.network is not None
    lines = [" ".join(argv) for argv in commands(PLAN.network, CARDS)]
    shown = await inside(tmp_path, " && ".join([*lines, "ip -json link", "ip -json route"]))
    links, routes = (json.loads(line) for line in shown.splitlines())
    assert {each["ifname"] for each in links} == {"lo", "lan", "tap0", "tap1"}
    assert [(each["dst"], each["dev"]) for each in routes] == [("10.0.0.0/24", "lan")]
    assert way_out(links, routes, CARDS) is None


async def test_nobody_outside_is_reached(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)"
        with pytest.raises(CommandFailed, match="Connection refused"):
            await run(enclosed([sys.executable, "-c", code], tmp_path), timeout_s=RUN_S)
        far = "import socket; socket.create_connection(('192.0.2.1', 80), 5)"
        with pytest.raises(CommandFailed, match="Network is unreachable"):
            await run(enclosed([sys.executable, "-c", far], tmp_path), timeout_s=RUN_S)


async def test_no_file_is_seen_but_programs_and_its_own_directory(tmp_path: Path) -> None:
    store, shared = tmp_path / "store", tmp_path / "shared"
    store.mkdir()
    shared.mkdir()
    (store / "layer").write_text("secret")
    script = f"touch mine; ls {store} /etc /proc 2>/dev/null; touch /usr/mine 2>/dev/null || echo kept"
    shown = (await inside(shared, script)).split()
    assert "layer" not in shown
    assert "kept" in shown
    assert not {"passwd", "1", "self"} & set(shown)
    assert (shared / "mine").exists()


@pytest.mark.parametrize(
    ("link", "route", "words"),
    [
        ({"ifname": "eth0"}, None, "the link eth0"),
        ({"ifname": "tap0", "link_netnsid": 0}, None, "the link tap0"),
        (None, {"dst": "default", "gateway": "10.0.0.254", "dev": "lan"}, "the route to default"),
        (None, {"dst": "192.0.2.0/24", "dev": "eth0"}, "the route to 192.0.2.0/24"),
    ],
)
def test_what_leads_out_is_seen(
    link: dict[str, str] | None, route: dict[str, str] | None, words: str
) -> None:
    links, routes = [{"ifname": "lo"}, {"ifname": "lan"}], [{"dst": "10.0.0.0/24", "dev": "lan"}]
    assert (
        way_out([*links, *([link] if link else [])], [*routes, *([route] if route else [])], CARDS) == words
    )


def test_with_dhcp_every_card_has_an_address_that_nobody_else_has() -> None:
    content = {
        "members": [{"vm": "db", "boot": {"nics": [{"address": "10.0.0.2"}, {}]}}, {"vm": "app"}],
        "network": {"address": "10.0.0.1/24", "dhcp": True},
    }
    found = cards_of(read_plan(content), ["app", "db", "new"])
    assert [each.address for each in found] == ["10.0.0.3", "10.0.0.2", "10.0.0.4", "10.0.0.5"]
    assert len({each.mac for each in found}) == 4
