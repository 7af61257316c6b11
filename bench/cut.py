# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long VMs stand still for a cut over two hosts, through the whole product, against bare stop and cont.

Two module processes are the hosts, each with QMP sockets of its own; the VMs' firmware idles. A cut's pause
is that of the VM that stood still longest.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qemu.qmp import QMPClient

from bench import loopback
from bench.report import Figure, Report

CUTS = 12
DISK = "16M"
HOSTS = ("bench-a", "bench-b")
SIZES = {"2x2": 2, "2x8": 8}
WRITE_BYTES = 65536


@dataclass(frozen=True)
class Host:
    """One hypervisor: its name and its VMs."""

    name: str
    machines: list[loopback.Machine]

    @property
    def sockets(self) -> list[str]:
        return [str(machine.product_socket) for machine in self.machines]


def run() -> Report:
    """CUTS sessions over two hosts, for each number of VMs a host, each followed by a bare stop and cont."""
    found: dict[str, Figure] = {}
    for size, vms in SIZES.items():
        with group(vms) as (receiver, hosts, folder):
            cuts = [measure(receiver, hosts, folder, number) for number in range(CUTS)]
        found |= figures(size, cuts)
    return Report("cut", found)


def figures(size: str, cuts: list[dict[str, float]]) -> dict[str, Figure]:
    """The figures of one number of VMs, from the measurements of each cut."""

    def of(name: str) -> list[float]:
        return [cut[name] for cut in cuts]

    aim = {"2x2": "<= 60", "2x8": "<= 120"}[size]
    return {
        f"pause_ms_{size}": Figure("ms", of("pause"), aim),
        f"pause_vs_bare_{size}": Figure("ratio of pause", of("vs_bare")),
        f"bare_ms_{size}": Figure("ms", of("bare")),
        f"barrier_ms_{size}": Figure("ms from stopped to the order cut", of("barrier")),
        f"host_ms_{size}": Figure("ms of QMP and all else", of("host")),
    }


@contextmanager
def group(vms: int) -> Iterator[tuple[loopback.Receiver, list[Host], Path]]:
    """A receiver and two hosts with so many tracked VMs each, in a directory of their own."""
    build = loopback.ROOT / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=build) as name, ExitStack() as stack:
        folder = Path(name)
        receiver = stack.enter_context(loopback.receiver(folder))
        hosts = [
            Host(host, [stack.enter_context(_machine(folder, f"{host}-{index}")) for index in range(vms)])
            for host in HOSTS
        ]
        for host in hosts:
            loopback.module("tracking", state="present", qmp_sockets=host.sockets)
        yield receiver, hosts, folder


@contextmanager
def _machine(folder: Path, name: str) -> Iterator[loopback.Machine]:
    disk = folder / f"{name}.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), DISK], check=True)
    with loopback.machine(folder, disk, name) as machine:
        yield machine


def measure(receiver: loopback.Receiver, hosts: list[Host], folder: Path, number: int) -> dict[str, float]:
    """One cut and one bare stop and cont of the same VMs; milliseconds."""
    for host in hosts:
        for machine in host.machines:
            machine.write(number * WRITE_BYTES, WRITE_BYTES, pattern=1 + number)
    opened = loopback.module(
        "session", group=loopback.GROUP, hosts=[host.name for host in hosts], **receiver.options
    )
    session = str(opened["session"]["id"])
    with ThreadPoolExecutor(len(hosts)) as pool:
        results = list(pool.map(lambda host: take_part(receiver, host, session, folder), hosts))
    pauses = {result["host"]: max(vm["pause_ms"] for vm in result["vms"]) for result in results}
    slowest = max(results, key=lambda result: pauses[result["host"]])
    pause, barrier = pauses[slowest["host"]], slowest["barrier_ms"]
    bare = asyncio.run(bare_pause([path for host in hosts for path in host.sockets]))
    return {
        "pause": pause,
        "bare": bare,
        "vs_bare": pause / bare,
        "barrier": barrier,
        "host": pause - barrier,
    }


def take_part(receiver: loopback.Receiver, host: Host, session: str, folder: Path) -> dict[str, Any]:
    """One host's module process in a session."""
    result = loopback.module(
        "backup", session=session, host=host.name, qmp_sockets=host.sockets, scratch_dir=str(folder),
        **receiver.options,
    )  # fmt: skip
    return result | {"host": host.name}


async def bare_pause(sockets: list[str]) -> float:
    """Stop all VMs and, when all stand still, let them run again; the longest pause in milliseconds."""
    clients = [QMPClient() for _socket in sockets]
    await asyncio.gather(*(client.connect(path) for client, path in zip(clients, sockets, strict=True)))
    stopped = await asyncio.gather(*map(_stop, clients))
    running = await asyncio.gather(*map(_cont, clients))
    await asyncio.gather(*(client.disconnect() for client in clients))
    return 1000 * max(end - start for start, end in zip(stopped, running, strict=True))


async def _stop(client: QMPClient) -> float:
    started = time.monotonic()
    await client.execute("stop")
    return started


async def _cont(client: QMPClient) -> float:
    await client.execute("cont")
    return time.monotonic()
