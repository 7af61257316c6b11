# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that lost its bitmap: what is sent against what has changed, and the time against a full backup."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

from bench import ingest, loopback
from bench.report import Figure, Report

ROUNDS = 3
CHANGED_CLUSTERS = 1024
CLUSTER_BYTES = 65536


def run() -> Report:
    """In each round a full backup, scattered changes, the loss of the bitmap, and a resync."""
    build = loopback.ROOT / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=build) as name:
        folder = Path(name)
        disk = ingest.random_disk(folder)
        with loopback.receiver(folder) as receiver, loopback.machine(folder, disk) as machine:
            runs = [measure(receiver, machine, folder, seed) for seed in range(ROUNDS)]
    return Report("resync", figures(runs))


def figures(runs: list[dict[str, float]]) -> dict[str, Figure]:
    """The section's figures from the measurements of each round."""

    def of(name: str) -> list[float]:
        return [run[name] for run in runs]

    return {
        "resync_sent_vs_changed": Figure("bytes / byte", of("resync_sent_vs_changed"), "<= 1.05"),
        "resync_vs_full_s": Figure("ratio of time", of("resync_vs_full_s"), "< 1"),
        "resync_s": Figure("s", of("resync_s")),
        "full_s": Figure("s", of("full_s")),
    }


def measure(
    receiver: loopback.Receiver, machine: loopback.Machine, folder: Path, seed: int
) -> dict[str, float]:
    """One round; leaves an empty store."""
    loopback.track(machine, "absent")
    loopback.track(machine, "present")
    full = loopback.back_up(receiver, machine, folder)
    # all bitmaps go, as in a power cut
    loopback.track(machine, "absent")
    loopback.track(machine, "present")
    changed = change(machine, seed)
    resync = loopback.back_up(receiver, machine, folder)
    expect_levels(full, resync)
    measured = {
        "resync_sent_vs_changed": resync["disks"][0]["sent_bytes"] / changed,
        "resync_vs_full_s": ingest.seconds(resync) / ingest.seconds(full),
        "resync_s": ingest.seconds(resync),
        "full_s": ingest.seconds(full),
    }
    ingest.forget(receiver)
    return measured


def change(machine: loopback.Machine, seed: int) -> int:
    """Overwrite scattered clusters, no two the same; the number of bytes."""
    places = random.Random(seed).sample(range(ingest.DISK_BYTES // CLUSTER_BYTES), CHANGED_CLUSTERS)
    for place in places:
        machine.write(place * CLUSTER_BYTES, CLUSTER_BYTES, pattern=1 + seed % 250)
    return CHANGED_CLUSTERS * CLUSTER_BYTES


def expect_levels(*sessions: dict[str, Any]) -> None:
    """A ratio of the wrong thing is worth nothing. Raises RuntimeError."""
    levels = [session["disks"][0]["level"] for session in sessions]
    if levels != ["full", "resync"]:
        raise RuntimeError(f"the backups to be measured had the levels {levels}")
