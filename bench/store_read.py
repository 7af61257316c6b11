# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading: a long chain made one file, a scrub, a map of a huge image, and verdicts for very many points."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
from livebackup_receiver import convert
from livebackup_receiver.chain import flat
from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.chain.image import open_image
from livebackup_receiver.convert import Format
from livebackup_receiver.retention.policy import RetentionPolicy, Scope, ScopedPolicy
from livebackup_receiver.retention.verdicts import PointFacts, judge
from livebackup_receiver.store.digests import read_table, write_table
from livebackup_receiver.store.verify import damaged_ranges, one_layer

from bench.chains import BEGIN, CLUSTER, ChainStore, catalog_of, scattered, straight, write_layer
from bench.file_systems import file_system
from bench.report import Figure

ROUNDS = 5
GIB, MIB = 1 << 30, 1 << 20
LAYERS = 50
TIB = 1 << 40
POINTS = 100_000


def run() -> dict[str, Figure]:
    """The figures of reading."""
    with file_system("xfs", "20G") as folder:
        return synthetic_full(folder) | scrub(folder) | map_of(folder) | plan()


def synthetic_full(folder: Path) -> dict[str, Figure]:
    """The newest of 50 points as a file of its own, against `qemu-img convert`; verified by QEMU once."""
    root = folder / "long"
    root.mkdir()
    with catalog_of(root) as catalog:
        store = ChainStore(root, catalog, size=4 * GIB)
        store.add(straight(0, GIB))
        for seed in range(1, LAYERS):
            store.add(scattered(GIB, 4 * MIB // CLUSTER, seed=seed))
        layers = [store.layer(number) for number in reversed(range(LAYERS))]
    target = folder / "full.qcow2"
    runs = []
    for _round in range(ROUNDS):
        ours = timed(lambda: convert.write(layers, target, Format.QCOW2))
        subprocess.run(["qemu-img", "compare", "-q", str(layers[0]), str(target)], check=True)
        runs.append((ours, timed(lambda: convert_by_qemu(layers[0], target))))
    target.unlink()
    return {
        "synthetic_vs_convert_50": Figure("ratio", [theirs / ours for ours, theirs in runs], "x, >= 10"),
        "synthetic_vs_convert_50_ours_s": Figure("s", [ours for ours, dummy in runs]),
    }


def convert_by_qemu(source: Path, target: Path) -> None:
    target.unlink()
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(source), str(target)], check=True)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def scrub(folder: Path) -> dict[str, Figure]:
    """Reading 1 GiB back against its digests, against `cat` of the same file, both with a cold cache."""
    layer, table = folder / "scrubbed.qcow2", folder / "scrubbed.digests"
    write_layer(layer, 4 * GIB, None, scattered(4 * GIB, GIB // CLUSTER, seed=1))
    write_table(layer, table)
    runs = [(timed(lambda: read_back(layer, table), cold=layer), timed(lambda: cat(layer), cold=layer))
            for _round in range(ROUNDS)]  # fmt: skip
    return {
        "scrub_vs_cat": Figure("ratio of throughput", [theirs / ours for ours, theirs in runs], "x, >= 0.5")
    }


def read_back(layer: Path, table: Path) -> None:
    with open_image(layer) as image:
        expected = one_layer(read_table(table))
        if list(damaged_ranges(flat.extents([image]), image.virtual_size, expected, pace=at_once)):
            raise RuntimeError("the layer is damaged")


def cat(layer: Path) -> None:
    with Path(os.devnull).open("wb") as null:
        subprocess.run(["cat", str(layer)], stdout=null, check=True)


def map_of(folder: Path) -> dict[str, Figure]:
    """Where the data of a full disk of 1 TiB are, against `qemu-img map`.

    A disk that was written from its beginning to its end, and one in extents of 1 MiB, as if used.
    """
    path = folder / "mapped.qcow2"
    options = "preallocation=metadata"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, str(path), str(TIB)], check=True
    )
    straight_runs = [
        timed(lambda: map_by_qemu(path)) / timed(lambda: count_clusters(path)) for _round in range(ROUNDS)
    ]
    shuffle(path)
    runs = [
        timed(lambda: map_by_qemu(path)) / timed(lambda: count_clusters(path)) for _round in range(ROUNDS)
    ]
    path.unlink()
    return {
        "map_vs_qemu_img": Figure("ratio", runs, "x, >= 10"),
        "map_straight_vs_qemu_img": Figure("ratio", straight_runs),
    }


def shuffle(path: Path) -> None:
    """Give every 1 MiB of a full image another place in the file; nothing is there, so nothing is lost."""
    with open_image(path, writable=True) as image:
        tables = [(int(image.l1[slot]), table) for slots, some in image.batches()
                  for slot, table in zip(slots, some, strict=True)]  # fmt: skip
        every = np.concatenate([table for dummy, table in tables]).reshape(-1, MIB // CLUSTER)
        np.random.default_rng(1).shuffle(every)
        content = every.reshape(len(tables), -1).byteswap()
        for (offset, _table), table in zip(tables, content, strict=True):
            os.pwrite(image.descriptor, table.tobytes(), offset)


def count_clusters(path: Path) -> None:
    with open_image(path) as image:
        found = sum(int(runs.length.sum()) for runs in flat.disk_map([image]))
    if found != TIB:
        raise RuntimeError(f"{found} bytes are mapped instead of {TIB}")


def map_by_qemu(path: Path) -> None:
    with Path(os.devnull).open("wb") as null:
        subprocess.run(["qemu-img", "map", "--output=json", str(path)], stdout=null, check=True)


def plan() -> dict[str, Figure]:
    """Verdicts for 100,000 hourly points, and how much longer than a tenth of them ten times as many take."""
    policy = RetentionPolicy(hourly=24, daily=7, weekly=4, monthly=12, yearly=5, time_zone="Europe/Berlin")
    scoped = [ScopedPolicy(Scope.parse("group:nightly"), policy)]
    points = [
        PointFacts(f"{number:026}", "nightly", BEGIN + timedelta(hours=number), True, (("db", "vd-a"),))
        for number in range(POINTS)
    ]
    random.Random(1).shuffle(points)
    now = BEGIN + timedelta(hours=POINTS)
    some = points[: POINTS // 10]
    runs = [(timed(lambda: judge(points, scoped, now)), timed(lambda: judge(some, scoped, now)))
            for _round in range(ROUNDS)]  # fmt: skip
    return {
        "plan_s_100k": Figure("s", [every for every, dummy in runs], "< 2"),
        "plan_100k_vs_10k": Figure("ratio", [every / tenth for every, tenth in runs], "at most 10: linear"),
    }


def timed(work: Callable[[], object], *, cold: Path | None = None) -> float:
    """Seconds that something takes; `cold` is dropped from the page cache first."""
    if cold:
        with cold.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    started = time.monotonic()
    work()
    return time.monotonic() - started
