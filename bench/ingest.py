# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our whole path, open to commit, against `qemu-img convert` of the same data into a local qcow2, in turn.

Both ends are durable: ours by the commit record, convert's by an fsync of its output afterwards.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from bench import loopback
from bench.report import Figure, Report

ROUNDS = 3
DISK_BYTES = 2 << 30
INCREMENT_BYTES = 1 << 30
EXTENT_BYTES = 1 << 20
MAX_SEED = 1 << 30


def run() -> Report:
    """Interleave ours and convert ROUNDS times, for a full and for an increment."""
    build = loopback.ROOT / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=build) as name:
        folder = Path(name)
        disk = random_disk(folder)
        with loopback.receiver(folder) as receiver, loopback.machine(folder, disk) as machine:
            runs = [measure(receiver, machine, folder, seed) for seed in range(ROUNDS)]
    return Report("ingest", figures(runs))


def figures(runs: list[dict[str, float]]) -> dict[str, Figure]:
    """The section's figures from the measurements of each round."""

    def of(name: str) -> list[float]:
        return [run[name] for run in runs]

    return {
        "full_vs_convert": Figure("ratio of throughput", of("full_vs_convert"), ">= 0.8"),
        "increment_vs_convert": Figure("ratio of throughput", of("increment_vs_convert"), ">= 0.8"),
        "increment_bytes_vs_dirty": Figure("bytes / byte", of("increment_bytes_vs_dirty"), "<= 1.05"),
        "fixed_cost_s": Figure("s", of("fixed_cost_s")),
        "full_s": Figure("s", of("full_s")),
        "increment_s": Figure("s", of("increment_s")),
    }


def measure(
    receiver: loopback.Receiver, machine: loopback.Machine, folder: Path, seed: int
) -> dict[str, float]:
    """One round: full, convert of the same disk, increment, convert of the same changes, nothing to move."""
    loopback.track(machine, "absent")
    loopback.track(machine, "present")
    full = loopback.back_up(receiver, machine, folder)
    full_convert = convert(folder, machine.disk)
    write_increment(machine, seed)
    increment = loopback.back_up(receiver, machine, folder)
    increment_convert = convert(folder, layer_of(receiver, increment), backing=layer_of(receiver, full))
    empty = loopback.back_up(receiver, machine, folder)
    expect_levels(full, increment, empty)
    transfer = increment["disks"][0]
    measured = {
        "full_vs_convert": full_convert / seconds(full),
        "increment_vs_convert": increment_convert / seconds(increment),
        "increment_bytes_vs_dirty": transfer["sent_bytes"] / transfer["dirty_bytes"],
        "fixed_cost_s": seconds(empty),
        "full_s": seconds(full),
        "increment_s": seconds(increment),
    }
    forget(receiver)
    return measured


def expect_levels(*sessions: dict[str, Any]) -> None:
    """A ratio of the wrong thing is worth nothing. Raises RuntimeError."""
    levels = [session["disks"][0]["level"] for session in sessions]
    if levels != ["full", "incremental", "incremental"]:
        raise RuntimeError(f"the backups to be measured had the levels {levels}")


def seconds(session: dict[str, Any]) -> float:
    """From the session's opening to its commit, by the receiver's clock."""
    if session["state"] != "committed":
        raise RuntimeError(f"session {session['id']} was not committed: {session['reason']}")
    opened, ended = (datetime.fromisoformat(session[key]) for key in ("opened_at", "ended_at"))
    return (ended - opened).total_seconds()


def convert(folder: Path, source: Path, backing: Path | None = None) -> float:
    """Seconds that `qemu-img convert` takes for what `source` holds above `backing`, fsync included."""
    output = folder / "converted.qcow2"
    chain = ["-B", str(backing), "-F", "qcow2"] if backing else []
    started = time.monotonic()
    subprocess.run(["qemu-img", "convert", "-U", "-O", "qcow2", *chain, str(source), str(output)], check=True)
    with output.open("rb") as written:
        os.fsync(written.fileno())
    took = time.monotonic() - started
    output.unlink()
    return took


def random_disk(folder: Path) -> Path:
    """A qcow2 disk full of random data."""
    raw, disk = folder / "random.raw", folder / "disk.qcow2"
    generator = random.Random(1)
    with raw.open("wb") as file:
        for _extent in range(DISK_BYTES // EXTENT_BYTES):
            file.write(generator.randbytes(EXTENT_BYTES))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(disk)], check=True)
    raw.unlink()
    return disk


def write_increment(machine: loopback.Machine, seed: int) -> None:
    """Overwrite random extents, no two the same."""
    places = random.Random(seed).sample(range(DISK_BYTES // EXTENT_BYTES), INCREMENT_BYTES // EXTENT_BYTES)
    for place in places:
        machine.write(place * EXTENT_BYTES, EXTENT_BYTES, pattern=1 + seed % 250)


def layer_of(receiver: loopback.Receiver, session: dict[str, Any]) -> Path:
    """The layer that a committed session left."""
    vm, disk, point = str(session["disks"][0]["vm"]), str(session["disks"][0]["disk"]), str(session["id"])
    return receiver.store / "vms" / vm / disk / f"{point}.qcow2"


def forget(receiver: loopback.Receiver) -> None:
    """Give the room of this round back; the next one starts with a full backup anyway."""
    shutil.rmtree(receiver.store / "vms")
