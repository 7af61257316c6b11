# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backup does to a guest's writes, by the guest's own clock, whatever becomes of the receiver.

Windows of equal length follow one another, every kind once a round. All transfers have the same speed limit,
so that each outlasts its window; it is aborted then. Everything runs in a network namespace of its own,
where the slow receiver is a slow loopback.
"""

from __future__ import annotations

import ctypes
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import loopback
from bench.guest import WritingGuest, writing_guest
from bench.report import Figure, Report

ROUNDS = 3
WINDOW_S = 8.5
DISK_BYTES = 256 << 20
SPEED = 8 << 20
SLOW = "rate 40mbit burst 256kb latency 200ms"
STALL_LIMIT_S = 60.0
START_TIMEOUT_S = 30.0
SAMPLES_ENOUGH = 1000
CLONE_NEWNET = 0x40000000

Window = dict[str, float]
Act = Callable[[], None]


@dataclass(frozen=True)
class Site:
    """What the windows are measured on."""

    receiver: loopback.Receiver
    guest: WritingGuest
    folder: Path


def run() -> Report:
    """ROUNDS rounds of all windows."""
    isolate()
    build = loopback.ROOT / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=build) as name:
        folder = Path(name)
        disk = full_disk(folder)
        with loopback.receiver(folder) as receiver, writing_guest(folder, disk) as guest:
            site = Site(receiver, guest, folder)
            rounds = [measure(site) for _round in range(ROUNDS)]
    return Report("impact", figures(rounds))


def figures(rounds: list[dict[str, Window]]) -> dict[str, Figure]:
    """Ratios within each round, and the latencies they are made of."""

    def ratio(kind: str, base: str) -> list[float]:
        return [windows[kind]["p99"] / windows[base]["p99"] for windows in rounds]

    found = {
        "p99_full_vs_idle": Figure("ratio", ratio("full", "idle")),
        "p99_increment_vs_idle": Figure("ratio", ratio("increment", "idle")),
        "p99_slow_vs_healthy": Figure("ratio", ratio("slow", "full"), "<= 1.2"),
        "p99_hung_vs_healthy": Figure("ratio", ratio("hung", "full"), "<= 1.2"),
        "p99_killed_vs_healthy": Figure("ratio", ratio("killed", "full"), "<= 1.2"),
        "failed_writes": Figure("writes", [sum(each["failed"] for each in w.values()) for w in rounds], "0"),
    }
    for kind in rounds[0]:
        for part in ("p50", "p99", "max"):
            runs = [windows[kind][part] for windows in rounds]
            found[f"{part}_ms_{kind}"] = Figure("ms", runs)
    found["samples"] = Figure("writes a window", [min(each["n"] for each in w.values()) for w in rounds])
    return found


def measure(site: Site) -> dict[str, Window]:
    """One round. All but the increment are full backups, and so is each of them to the guest's writes."""
    found = {"idle": window(site.guest)}
    for state in ("absent", "present"):
        loopback.module("tracking", state=state, qmp_sockets=[str(site.guest.product_socket)])
    found["full"] = during_backup(site, "full", nothing, nothing)
    found["hung"] = during_backup(site, "full", *storage_daemon(signal.SIGSTOP, signal.SIGCONT))
    found["killed"] = during_backup(site, "full", *storage_daemon(signal.SIGKILL, None))
    found["slow"] = during_backup(site, "full", slow_down, speed_up)
    commit(site)
    found["idle"] = pooled(found["idle"], window(site.guest))
    found["increment"] = during_backup(site, "incremental", nothing, nothing)
    return found


def window(guest: WritingGuest) -> Window:
    """The guest's writes of the next seconds; latencies in milliseconds."""
    position = guest.position()
    time.sleep(WINDOW_S)
    told = guest.since(position)
    took = sorted(each / 1000 for each in told if each >= 0)
    if len(took) < SAMPLES_ENOUGH:
        raise RuntimeError(f"the guest made only {len(took)} writes in {WINDOW_S:g} s; use a quieter machine")
    parts = statistics.quantiles(took, n=100)
    failed = float(len(told) - len(took))
    return {"p50": parts[49], "p99": parts[98], "max": took[-1], "failed": failed, "n": float(len(told))}


def pooled(one: Window, other: Window) -> Window:
    """Two windows of the same kind, as one."""
    found = {part: (one[part] + other[part]) / 2 for part in ("p50", "p99", "n")}
    return found | {"max": max(one["max"], other["max"]), "failed": one["failed"] + other["failed"]}


def during_backup(site: Site, level: str, harm: Act, mend: Act) -> Window:
    """A window while data is transferred, in a session that is given up afterwards."""
    session = open_session(site)
    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(take_part, site, session, SPEED)
        try:
            await_transfer(site, session, level, ending)
            harm()
            try:
                found = window(site.guest)
            finally:
                mend()
            loopback.module("session", id=session, state="absent", **site.receiver.options)
        finally:
            with suppress(RuntimeError):
                ending.result()
    return found


def commit(site: Site) -> None:
    """A full backup as fast as it can be: the base of the increment."""
    take_part(site, open_session(site), 0)


def open_session(site: Site) -> str:
    opened = loopback.module(
        "session", group=loopback.GROUP, hosts=[loopback.HOST], wait=30, **site.receiver.options
    )
    return str(opened["session"]["id"])


def take_part(site: Site, session: str, speed: int) -> dict[str, Any]:
    return loopback.module(
        "backup", session=session, host=loopback.HOST, qmp_sockets=[str(site.guest.product_socket)],
        scratch_dir=str(site.folder), speed=speed, stall_limit=STALL_LIMIT_S, **site.receiver.options,
    )  # fmt: skip


def await_transfer(site: Site, session: str, level: str, ending: Future[dict[str, Any]]) -> None:
    """Until data flows, at the level that is to be measured."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ending.done() and time.monotonic() < deadline:
        shown = site.receiver.session(session)
        if any(disk["done_bytes"] for disk in shown["disks"]):
            levels = [disk["level"] for disk in shown["disks"]]
            if levels != [level]:
                raise RuntimeError(f"the backup to be measured had the level {levels[0]}")
            return
        time.sleep(0.1)
    raise RuntimeError(f"session {session} did not begin to transfer")


def nothing() -> None:
    """The healthy receiver."""


def slow_down() -> None:
    subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", "tbf", *SLOW.split()], check=True)


def speed_up() -> None:
    subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], check=True)


def storage_daemon(harm: signal.Signals, mend: signal.Signals | None) -> tuple[Act, Act]:
    """Acts that send signals to the storage daemon of our receiver."""

    def send(number: signal.Signals) -> None:
        for pid in our_daemons():
            os.kill(pid, number)

    def do_harm() -> None:
        if not our_daemons():
            raise RuntimeError("the receiver's storage daemon was not found")
        send(harm)

    return do_harm, lambda: send(mend) if mend else None


def our_daemons() -> list[int]:
    """The storage daemons below this process, whatever else runs on the machine."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, rest = stat.read_text().split("(", 1)[1].rsplit(")", 1)
            found[int(stat.parent.name)] = (name, int(rest.split()[1]))
    daemons = [pid for pid, (name, _parent) in found.items() if name == "qemu-storage-da"]
    return [pid for pid in daemons if _is_ours(pid, found)]


def _is_ours(pid: int, parents: dict[int, tuple[str, int]]) -> bool:
    while pid in parents and pid != os.getpid():
        pid = parents[pid][1]
    return pid == os.getpid()


def isolate() -> None:
    """A network namespace of our own, with a loopback that may be slowed down."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "a network namespace could not be made; run the benchmark as root")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def full_disk(folder: Path) -> Path:
    """A qcow2 disk full of random data."""
    raw, disk = folder / "random.raw", folder / "disk.qcow2"
    raw.write_bytes(os.urandom(DISK_BYTES))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(disk)], check=True)
    raw.unlink()
    return disk
