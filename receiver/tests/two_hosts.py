# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hypervisors with three disks, and a look at what a session of theirs has left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx
from hypervisor import MIB, Disk, Hypervisor
from serving import Served
from waiting import until

from livebackup_receiver.model import Session
from livebackup_receiver.subprocesses import run

KEYS = (("db", "vd-a"), ("db", "vd-b"), ("web", "vd-a"))


def make_disks(directory: Path) -> dict[tuple[str, str], Disk]:
    """Disks that hold something, and mostly zeros."""
    disks = {key: Disk(directory / f"{key[0]}-{key[1]}.raw") for key in KEYS}
    for number, disk in enumerate(disks.values()):
        disk.write(number * MIB, MIB, 0x41 + number)
        disk.write(disk.size - 4096, 4096, 0x51 + number)
    return disks


def make_hosts(client: httpx.AsyncClient, disks: dict[tuple[str, str], Disk]) -> list[Hypervisor]:
    """hv1 with the VM db, hv2 with the VM web."""
    return [
        Hypervisor(client, "hv1", {"db": {"vd-a": disks["db", "vd-a"], "vd-b": disks["db", "vd-b"]}}),
        Hypervisor(client, "hv2", {"web": {"vd-a": disks["web", "vd-a"]}}),
    ]


async def get_session(client: httpx.AsyncClient, session: str) -> Session:
    answer = await client.get(f"/api/v1/sessions/{session}")
    return Session.model_validate(answer.json())


async def ended(client: httpx.AsyncClient, server: Served, session: str) -> Session:
    """The session, once nothing of it runs any more."""

    async def look() -> Session | None:
        return None if server.receiver.sessions.find(session) else await get_session(client, session)

    return await until(look)


def files_of(server: Served, session: str) -> list[str]:
    """What of a session is in the store."""
    return sorted(str(path) for path in server.receiver.store.vms.glob(f"*/*/{session}*"))


async def daemons() -> list[int]:
    """The storage daemons that this process runs: their ids."""
    children = await run(["ps", "--ppid", str(os.getpid()), "-o", "pid=,comm="], timeout_s=10)
    found = (line.split() for line in children.stdout.splitlines())
    return [int(pid) for pid, name in found if name.startswith("qemu-storage")]


def vms_of(point: dict[str, Any]) -> dict[str, list[str]]:
    return {vm["vm"]: [disk["level"] for disk in vm["disks"]] for vm in point["vms"]}
