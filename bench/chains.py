# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chains of layers for measuring, written by QEMU, and kept in a store as the receiver would have it."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.catalog.points import add_point
from livebackup_receiver.model import Consistency, Level, Point, PointDisk, PointVm
from livebackup_receiver.store.digests import write_table
from livebackup_receiver.store.manifest import Manifest, Member, write_manifest
from livebackup_receiver.store.paths import Store
from ulid import ULID

CLUSTER = 65536
VM, DISK = "db", "vd-a"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class ChainStore:
    """A store with one disk; ``digests`` says whether layers get their tables, which takes reading them."""

    def __init__(self, root: Path, catalog: Catalog, *, size: int, digests: bool = False) -> None:
        self.store = Store(root)
        self.catalog = catalog
        self.size = size
        self.points: list[str] = []
        self._digests = digests
        self.directory = self.store.disk(VM, DISK)
        self.directory.path.mkdir(parents=True)

    def add(self, extents: Sequence[tuple[int, int]], *, seed: int = 0, at: datetime | None = None) -> str:
        """A point whose layer holds these extents (offset, length), written in this order."""
        at = at or BEGIN + timedelta(hours=len(self.points))
        point, parent = str(ULID.from_datetime(at)), self.points[-1] if self.points else None
        layer = self.directory.layer(point)
        write_layer(layer, self.size, self.directory.layer(parent) if parent else None, extents, seed=seed)
        if self._digests:
            write_table(layer, self.directory.digests(point))
        self._record(point, parent, layer, at)
        self.points.append(point)
        return point

    def layer(self, number: int) -> Path:
        return self.directory.layer(self.points[number])

    def _record(self, point: str, parent: str | None, layer: Path, at: datetime) -> None:
        level = Level.INCREMENTAL if parent else Level.FULL
        stored = layer.stat().st_blocks * 512
        disk = PointDisk(
            disk=DISK, virtual_size=self.size, level=level, level_reason="", parent=parent, root=None,
            layer=self.store.relative(layer), stored_bytes=stored, dirty_bytes=None, sent_bytes=stored,
        )  # fmt: skip
        vm = PointVm(vm=VM, host="hv1", pause_ms=None, consistency=Consistency.CRASH, disks=[disk])
        made = Point(
            id=point, group="bench", complete=True, consistency=Consistency.CRASH, cut_at=at,
            committed_at=at, vms=[vm],
        )  # fmt: skip
        write_manifest(
            self.directory.manifest(point),
            Manifest(
                point=point, group="bench", vm=VM, disk=DISK, host="hv1", parent=parent, level=level,
                level_reason="", virtual_size=self.size, cut_at=at, sealed_at=at,
                consistency=Consistency.CRASH, pause_ms=None, complete=True,
                layer_size=layer.stat().st_size, stored_bytes=stored, dirty_bytes=None, sent_bytes=stored,
                root=None, members=[Member(vm=VM, disk=DISK)],
            ),
        )  # fmt: skip
        with self.catalog.write() as db:
            add_point(db, made)


def catalog_of(root: Path) -> AbstractContextManager[Catalog]:
    """The migrated catalog of a store."""
    return open_catalog(f"sqlite:///{root}/catalog.sqlite3")


def write_layer(
    path: Path, size: int, parent: Path | None, extents: Sequence[tuple[int, int]], *, seed: int = 0
) -> None:
    """A layer that QEMU has written, extent by extent."""
    backing = ["-b", parent.name, "-F", "qcow2"] if parent else []
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(path), str(size)], check=True)
    lines = "".join(
        f"write -q -P {1 + (seed + number) % 250} {offset} {length}\n"
        for number, (offset, length) in enumerate(extents)
    )
    subprocess.run(
        ["qemu-io", "-t", "writeback", "-f", "qcow2", str(path)],
        input=f"{lines}quit\n", text=True, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    with path.open("rb") as file:
        os.fsync(file.fileno())


def scattered(size: int, count: int, *, seed: int) -> list[tuple[int, int]]:
    """So many clusters anywhere on the disk, in no order."""
    places = random.Random(seed).sample(range(size // CLUSTER), count)
    return [(place * CLUSTER, CLUSTER) for place in places]


def straight(start: int, length: int, step: int = 1 << 20) -> list[tuple[int, int]]:
    """A range of the disk from its beginning to its end."""
    return [(offset, step) for offset in range(start, start + length, step)]
