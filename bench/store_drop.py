# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A point is dropped: by the receiver's own way, by `qemu-img rebase`, and by `qemu-img commit`."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.consolidation.abilities import abilities_of
from livebackup_receiver.consolidation.worker import Consolidation
from livebackup_receiver.decisions import drop_points
from livebackup_receiver.store.paths import Store

from bench.chains import BEGIN, CLUSTER, ChainStore, catalog_of, scattered, straight
from bench.file_systems import file_system
from bench.report import Figure

GIB = 1 << 30
# Each of three begins two rounds.
ROUNDS = 6
DISK_BYTES = 64 * GIB
AS_IT_COMES, AT_ONCE = 50, 1
# A disk that has just taken gigabytes is slow for a while, and would be so for whoever comes first.
REST_S = 20

Run = tuple[float, float, float]


@dataclass(frozen=True)
class Site:
    """A store that is copied for each round: an old point, the one that is dropped, and one over it."""

    folder: Path
    points: tuple[str, ...]

    def copy(self) -> Path:
        """A copy that can be spoilt, on a disk that has rested; the same data for everyone."""
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        subprocess.run(["cp", "-a", "--reflink=auto", str(self.folder / "store"), str(work)], check=True)
        os.sync()
        time.sleep(REST_S)
        return work

    def layers(self, root: Path) -> list[Path]:
        directory = Store(root).disk("db", "vd-a")
        return [directory.layer(point) for point in self.points]


def on_xfs() -> dict[str, Figure]:
    """Where extents are shared, dropping is merging."""
    with file_system("xfs", "40G") as folder:
        runs = in_turn(make(folder, dropped=4 * GIB, upper=1 * GIB), AS_IT_COMES)
    return compare("drop_vs_rebase_xfs", runs, lambda run: run[1], "x, >= 40") | compare(
        "merge_vs_best_xfs", runs, lambda run: min(run[1:]), "x, >= 4"
    )


def dropped_on_ext4() -> dict[str, Figure]:
    """Elsewhere, holes are made; the bytes of data that moves are counted."""
    with file_system("ext4", "30G") as folder:
        site = make(folder, dropped=1 * GIB, upper=GIB // 4)
        drops = [(*ours(site, AS_IT_COMES), rebase(site)) for dummy in range(ROUNDS)]
    moved = {"drop_data_bytes": Figure("bytes", [run[1] for run in drops], "0")}
    return compare("drop_vs_rebase_ext4", drops, lambda run: run[2], "x, >= 10") | moved


def merged_on_ext4() -> dict[str, Figure]:
    """And what comes later, when a chain has become long."""
    with file_system("ext4", "60G") as folder:
        runs = in_turn(make(folder, dropped=4 * GIB, upper=1 * GIB), AT_ONCE)
    return compare("merge_vs_best_ext4", runs, lambda run: min(run[1:]), "x, >= 1.2")


def in_turn(site: Site, max_depth: int) -> list[Run]:
    """What ours, `rebase` and `commit` take; each begins some rounds, as a disk is slower after much work."""
    works = (lambda: ours(site, max_depth)[0], lambda: rebase(site), lambda: commit(site))
    runs: list[list[float]] = []
    for number in range(ROUNDS):
        took = [0.0] * len(works)
        for place in range(len(works)):
            which = (number + place) % len(works)
            took[which] = works[which]()
        runs.append(took)
    return [(run[0], run[1], run[2]) for run in runs]


def compare(name: str, runs: Sequence[Run], other: Callable[[Run], float], aim: str) -> dict[str, Figure]:
    """How many times as fast ours was in each round, and the seconds behind it."""
    return {
        name: Figure("ratio", [other(run) / run[0] for run in runs], aim),
        f"{name}_ours_s": Figure("s", [run[0] for run in runs]),
        f"{name}_other_s": Figure("s", [other(run) for run in runs]),
    }


def make(folder: Path, *, dropped: int, upper: int) -> Site:
    """Three points: 64 MiB, the one to be dropped, and one over it, both in random extents of 64 KiB."""
    root = folder / "store"
    root.mkdir()
    with catalog_of(root) as catalog:
        store = ChainStore(root, catalog, size=DISK_BYTES, digests=True)
        store.add(straight(0, 64 << 20))
        store.add(scattered(DISK_BYTES, dropped // CLUSTER, seed=1))
        store.add(scattered(DISK_BYTES, upper // CLUSTER, seed=2))
    return Site(folder, tuple(store.points))


def ours(site: Site, max_depth: int) -> tuple[float, float]:
    """Seconds from the order to drop a point until its space is back, and the bytes of data moved for it."""
    root = site.copy()
    with catalog_of(root) as catalog:
        work = Consolidation(Store(root), catalog, abilities_of(root), max_depth=max_depth)
        started = time.monotonic()
        drop_points(catalog, Store(root), [site.points[1]], now=BEGIN)
        for disk in work.waiting():
            work.consolidate(disk, at_once)
        sync(root)
        return time.monotonic() - started, work.moved_bytes


def rebase(site: Site) -> float:
    """Seconds that `qemu-img rebase` and the removal take."""
    lowest, dropped, upper = site.layers(site.copy())
    started = time.monotonic()
    subprocess.run(["qemu-img", "rebase", "-b", lowest.name, "-F", "qcow2", str(upper)], check=True)
    dropped.unlink()
    sync(upper.parent)
    return time.monotonic() - started


def commit(site: Site) -> float:
    """Seconds that `qemu-img commit` into the dropped layer, and giving it the other's name take."""
    dropped, upper = site.layers(site.copy())[1:]
    started = time.monotonic()
    subprocess.run(["qemu-img", "commit", "-q", "-d", str(upper)], check=True)
    dropped.rename(upper)
    sync(upper.parent)
    return time.monotonic() - started


def sync(folder: Path) -> None:
    """Bring everything in a file system to the disk (`syncfs`)."""
    subprocess.run(["sync", "--file-system", str(folder)], check=True)
