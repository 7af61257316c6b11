# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A year of hourly points of a small disk, really made, dropped and merged; and by `qemu-img rebase`."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from livebackup_receiver import convert
from livebackup_receiver.catalog.chains import layers_of_disks
from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.consolidation.abilities import abilities_of
from livebackup_receiver.consolidation.plan import depth_of
from livebackup_receiver.consolidation.worker import Consolidation
from livebackup_receiver.convert import Format
from livebackup_receiver.decisions import drop_points
from livebackup_receiver.retention.policy import RetentionPolicy, Scope, ScopedPolicy
from livebackup_receiver.retention.verdicts import PointFacts, judge

from bench.chains import BEGIN, CLUSTER, DISK, VM, ChainStore, catalog_of, straight
from bench.file_systems import file_system
from bench.report import Figure

HOURS = int(os.environ.get("BENCH_YEAR_HOURS", 365 * 24))
DISK_BYTES = 1 << 30
USED_BYTES = 256 << 20
# 2 % of what is used changes in a day, most of it in a twentieth of the disk
CHANGED = USED_BYTES // CLUSTER * 2 // 100 // 24 + 1
HOT_SHARE, HOT_PART = 0.8, 20
MAX_DEPTH = 50
ROUNDS = 5
POLICY = RetentionPolicy(hourly=24, daily=7, weekly=4, monthly=12)


@dataclass
class Year:
    """What has been counted so far; bytes as the kernel accounts them to the process that writes."""

    ours_bytes: int = 0
    rebase_bytes: int = 0
    max_depth: int = 0
    kept: list[PointFacts] = field(default_factory=list)


def run() -> dict[str, Figure]:
    """The figures of the year."""
    with file_system("ext4", "20G") as folder:
        root, rival = folder / "store", folder / "rebased"
        root.mkdir()
        rival.mkdir()
        with catalog_of(root) as catalog:
            store = ChainStore(root, catalog, size=DISK_BYTES, digests=True)
            year = live_through(store, rival)
            runs = list(restores(store, folder))
    return {
        "year_bytes_vs_rebase": Figure("bytes / byte", [year.ours_bytes / year.rebase_bytes], "<= 0.2"),
        "year_bytes": Figure("bytes", [year.ours_bytes]),
        "year_max_depth": Figure("layers", [year.max_depth], f"<= {MAX_DEPTH}"),
        "year_points": Figure("points", [len(year.kept)]),
        "year_restore_vs_flat": Figure("ratio of throughput", runs, ">= 0.8"),
    }


def live_through(store: ChainStore, rival: Path) -> Year:
    """Make a point each hour, drop what the policy keeps no longer, and count."""
    chance, year = random.Random(1), Year()
    work = Consolidation(store.store, store.catalog, abilities_of(store.store.root), max_depth=MAX_DEPTH)
    for hour in range(HOURS):
        extents = changes(chance) if hour else straight(0, USED_BYTES)
        at = BEGIN + timedelta(hours=hour)
        point = store.add(extents, seed=hour, at=at)
        shutil.copyfile(store.directory.layer(point), rival / f"{point}.qcow2")
        year.kept.append(PointFacts(point, "bench", at, True, ((VM, DISK),)))
        expired = retire(year)
        before = written(resource.RUSAGE_SELF)
        drop_points(store.catalog, store.store, expired, now=at)
        for disk in work.waiting():
            work.consolidate(disk, at_once)
        year.ours_bytes += written(resource.RUSAGE_SELF) - before
        year.rebase_bytes += rebase(rival, expired)
        year.max_depth = max(year.max_depth, depth(store))
    same_newest(store, rival)
    return year


def changes(chance: random.Random) -> list[tuple[int, int]]:
    """An hour's clusters, most of them in the part of the disk that is written again and again."""
    clusters = USED_BYTES // CLUSTER
    places = {
        chance.randrange(clusters // HOT_PART if chance.random() < HOT_SHARE else clusters)
        for dummy in range(CHANGED)
    }
    return [(place * CLUSTER, CLUSTER) for place in places]


def retire(year: Year) -> list[str]:
    """The points that the policy keeps no longer."""
    scoped = [ScopedPolicy(Scope.parse("group:bench"), POLICY)]
    verdicts = judge(year.kept, scoped, year.kept[-1].cut_at)
    gone = {each.point.id for each in verdicts if not each.keep}
    year.kept = [point for point in year.kept if point.id not in gone]
    return sorted(gone)


def rebase(rival: Path, expired: list[str]) -> int:
    """Drop points by hand, as the manuals say; the bytes that were written for it."""
    before = written(resource.RUSAGE_CHILDREN)
    for point in expired:
        layers = sorted(rival.glob("*.qcow2"))
        at = [layer.stem for layer in layers].index(point)
        below = ["-b", layers[at - 1].name, "-F", "qcow2"] if at else ["-b", ""]
        subprocess.run(["qemu-img", "rebase", "-f", "qcow2", *below, str(layers[at + 1])], check=True)
        layers[at].unlink()
    return written(resource.RUSAGE_CHILDREN) - before


def written(who: int) -> int:
    """Bytes that the kernel has accounted as written (getrusage(2), ru_oublock)."""
    return resource.getrusage(who).ru_oublock * 512


def depth(store: ChainStore) -> int:
    with store.catalog.read() as db:
        return depth_of(layers_of_disks(db)[VM, DISK])


def same_newest(store: ChainStore, rival: Path) -> None:
    """A ratio of the wrong thing is worth nothing: both chains must hold the same."""
    for point in sorted(rival.glob("*.qcow2")):
        ours = store.directory.layer(point.stem)
        subprocess.run(["qemu-img", "compare", "-q", str(ours), str(point)], check=True)


def restores(store: ChainStore, folder: Path) -> Iterator[float]:
    """Restoring the newest point of the year, against `qemu-img convert` of one file of the same content."""
    layers = [store.directory.layer(point) for point in chain(store)]
    single, target = folder / "single.qcow2", folder / "target.qcow2"
    convert.write(layers, single, Format.QCOW2)
    for _round in range(ROUNDS):
        started = time.monotonic()
        convert.write(layers, target, Format.QCOW2)
        ours = time.monotonic() - started
        target.unlink()
        started = time.monotonic()
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(single), str(target)], check=True)
        with target.open("rb") as file:
            os.fsync(file.fileno())
        yield (time.monotonic() - started) / ours
        target.unlink()


def chain(store: ChainStore) -> list[str]:
    """The newest point and those below it."""
    with store.catalog.read() as db:
        known = {each.point: each for each in layers_of_disks(db)[VM, DISK]}
    found: list[str] = []
    wanted: str | None = max(known)
    while wanted is not None:
        found.append(wanted)
        wanted = known[wanted].parent
    return found
