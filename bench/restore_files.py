# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A point of 1, 10 and 50 layers as a file, against `qemu-img convert` from the same files to the same place.

Ours is what `livebackup-receiver restore` does once it has read its options: the chain is checked and held,
the file is written, gets its bitmaps, is durable, and gets its name. `..._verified_...` also compares all of
it with the digests of the point, as the command does unless told otherwise. Theirs is `qemu-img convert` as
it is, and an fsync; it compares nothing. On ext4, where nothing can be shared; on XFS, where the file shares
extents with the store.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from livebackup_receiver.catalog.points import disk_chain, load_point
from livebackup_receiver.convert import Format
from livebackup_receiver.errors import PointDamaged
from livebackup_receiver.restore import DiskRestore, RestorePlan, plan_restore
from livebackup_receiver.restoring.act import restore
from livebackup_receiver.restoring.manner import Manner
from livebackup_receiver.store.ranges import Range

from bench.chains import CLUSTER, DISK, VM, ChainStore, catalog_of, scattered, straight
from bench.file_systems import file_system
from bench.report import Figure
from bench.store_drop import sync
from bench.store_read import convert_by_qemu, timed

GIB, MIB = 1 << 30, 1 << 20
SIZE = 4 * GIB
# Each of three begins one round.
ROUNDS = 3
AIMS = {1: "x, >= 1.0", 10: "x, >= 1.2", 50: "x, >= 2"}
# A disk that has just taken gigabytes is slow for a while, and would be so for whoever comes first.
REST_S = 10


def run() -> dict[str, Figure]:
    """The figures on both file systems."""
    figures: dict[str, Figure] = {}
    for kind, suffix in (("ext4", ""), ("xfs", "_shared")):
        with file_system(kind, "12G") as folder:
            for length, aim in AIMS.items():
                figures |= compare(folder, length, aim if not suffix else "", suffix)
    return figures


def compare(folder: Path, length: int, aim: str, suffix: str) -> dict[str, Figure]:
    """A chain of this length: 1 GiB, and 4 MiB in each further layer, both in turn."""
    root = folder / f"store-{length}"
    root.mkdir()
    plan = make(root, folder / "restored", length)
    (disk,) = plan.disks
    verified = Manner()
    plain = Manner(verify=False)
    works = (
        lambda: ours(plan, plain),
        lambda: ours(plan, verified),
        lambda: timed(lambda: theirs(disk.layers[0], disk.target)),
    )
    runs = []
    for number in range(ROUNDS):
        took = [0.0] * len(works)
        for place in range(len(works)):
            which = (number + place) % len(works)
            rest(folder, disk.target)
            took[which] = works[which]()
            subprocess.run(["qemu-img", "compare", "-q", str(disk.layers[0]), str(disk.target)], check=True)
        runs.append(took)
    shutil.rmtree(root)
    return {
        f"restore_vs_convert_{length}{suffix}": Figure(
            "ratio of throughput", [took[2] / took[0] for took in runs], aim
        ),
        f"restore_verified_vs_convert_{length}{suffix}": Figure(
            "ratio of throughput", [took[2] / took[1] for took in runs]
        ),
        f"restore_{length}{suffix}_s": Figure("s", [took[0] for took in runs]),
        f"convert_{length}{suffix}_s": Figure("s", [took[2] for took in runs]),
    }


def make(root: Path, target: Path, length: int) -> RestorePlan:
    """A store with a chain, and the plan to restore its newest point."""
    with catalog_of(root) as catalog:
        store = ChainStore(root, catalog, size=SIZE, digests=True)
        store.add(straight(0, GIB))
        for seed in range(1, length):
            store.add(scattered(GIB, 4 * MIB // CLUSTER, seed=seed))
        with catalog.read() as db:
            point = load_point(db, store.points[-1])
            chain = disk_chain(db, point=point.id, vm=VM, disk=DISK)
        return plan_restore(point, {(VM, DISK): chain}, store=root, directory=target, format=Format.QCOW2)


def rest(folder: Path, target: Path) -> None:
    """Nothing is there, and the disk has nothing left to do."""
    target.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    sync(folder)
    time.sleep(REST_S)


def ours(plan: RestorePlan, manner: Manner) -> float:
    """Seconds until the file is durable under its name."""
    return timed(lambda: asyncio.run(restore(plan, manner, judge=damaged, on_progress=lambda *told: None)))


def damaged(disk: DiskRestore, found: Mapping[str, Sequence[Range]]) -> PointDamaged:
    raise RuntimeError(f"{disk.target} is damaged: {found}")


def theirs(source: Path, target: Path) -> None:
    target.touch()
    convert_by_qemu(source, target)
