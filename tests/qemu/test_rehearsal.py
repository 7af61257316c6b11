# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A group of two, backed up and rehearsed: Linux guests with agents, of which one needs the other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import modules
import pytest
from backups import arguments, track
from machine import Image, Machine
from receiving import ReceiverProcess

from lab import guest

# The guests' processors are simulated, and one comes up after the other.
pytestmark = pytest.mark.timeout(600)

BOOT = {
    "memory_mib": 128,
    "kernel": "vmlinuz",
    "initrd": "initramfs",
    "append": "console=ttyS0 quiet loglevel=3 panic=-1 tsc=reliable lab.mode=idle",
}
# The lab's guest has an address of its own, which is none of this network.
LEASE = r"""
printf '#!/bin/sh\n[ "$1" != bound ] || ip addr add $ip/24 dev eth0\n' > /tmp/lease
chmod 755 /tmp/lease
ip addr flush dev eth0
udhcpc -i eth0 -n -q -s /tmp/lease
"""
SERVE = "mkdir -p /tmp/pages && echo all is well > /tmp/pages/health && httpd -p 8080 -h /tmp/pages"
FETCH = "wget -q -O - http://10.0.0.2:8080/health | grep 'all is well'"


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[ReceiverProcess]:
    """One that has the kernel of the lab's guests."""
    settings = {"rehearsal_files": str(guest.build()), "rehearsal_accelerators": ["tcg"]}
    (tmp_path / "receiver").mkdir()
    with ReceiverProcess(tmp_path / "receiver", settings=settings) as process:
        yield process


def shell(name: str, script: str) -> dict[str, Any]:
    return {"name": name, "command": ["/bin/sh", "-c", script], "timeout_s": 120}


def member(vm: Machine, address: str, *checks: dict[str, Any], **facts: Any) -> dict[str, Any]:
    ready = {"agent": True, "timeout_s": 240}
    boot = BOOT | {"nics": [{"address": address}]}
    return {"vm": vm.name, "boot": boot, "ready": ready, "checks": [shell("lease", LEASE), *checks], **facts}


def rehearse(receiver: ReceiverProcess) -> tuple[int, dict[str, Any]]:
    done = receiver.command("rehearse", "--group", receiver.group, "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_the_second_reaches_the_first_on_their_own_network(
    make_machine: Callable[..., Machine], receiver: ReceiverProcess
) -> None:
    db, app = (make_machine(images=(Image("a"),), rounds=0) for dummy in range(2))
    for each in (db, app):
        track(each)
    options = arguments(db, receiver, receiver.open()) | {"qmp_sockets": [db.qmp, app.qmp]}
    point = modules.succeed("backup", **options)["point"]
    served = [shell("serve", SERVE), {"name": "port", "tcp": 8080}]
    page = {"name": "page", "http": "http://10.0.0.2:8080/health", "text": "all is well"}
    plan = [
        member(app, "10.0.0.3", shell("reaches it", FETCH), after=[db.name]),
        member(db, "10.0.0.2", *served, page),
    ]
    network = {"address": "10.0.0.1/24", "dhcp": True}
    declared = {**receiver.options("manage"), "group": receiver.group, "network": network}
    modules.succeed("recovery_plan", **declared, members=plan)
    code, found = rehearse(receiver)
    assert (code, found["outcome"], found["reason"]) == (0, "passed", None)
    assert found["point"] == point
    assert {each["vm"]: len(each["checks"]) for each in found["members"]} == {db.name: 4, app.name: 2}
    shown = modules.succeed("point_info", **receiver.options("read"), id=point)["points"][0]["rehearsal"]
    assert (shown["id"], shown["outcome"]) == (found["id"], "passed")
    wrong = member(db, "10.0.0.2", {"name": "sql", "tcp": 5432, "timeout_s": 5})
    modules.succeed("recovery_plan", **declared, members=[plan[0], wrong])
    code, found = rehearse(receiver)
    assert (code, found["outcome"]) == (1, "failed")
    assert f"{db.name}: check sql:" in found["reason"]
    assert "Connect call failed ('10.0.0.2', 5432)" in found["reason"]
    assert {each["vm"]: each["outcome"] for each in found["members"]} == {
        db.name: "failed",
        app.name: "not-started",
    }
