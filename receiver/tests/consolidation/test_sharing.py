# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Points are dropped on a file system whose files can share extents: all goes at once, and no data move."""

from __future__ import annotations

from pathlib import Path

import pytest
from file_systems import free_bytes
from overlapping_points import DB, five_points
from random_chains import is_clean
from reading_back import drop
from sample_store import SampleStore, Write, read_image
from waiting import until

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.consolidation.abilities import abilities_of
from livebackup_receiver.consolidation.plan import Abilities
from livebackup_receiver.consolidation.worker import Consolidation
from livebackup_receiver.store.paths import Store

MIB = 1 << 20
SIZES = {DB: 64 * MIB}
TABLES_BYTES = MIB


@pytest.fixture
def store(sharing_path: Path, catalog: Catalog) -> SampleStore:
    """A store on such a file system."""
    return SampleStore(sharing_path, catalog)


def consolidate(store: SampleStore) -> Consolidation:
    """As a receiver does it, which asks the file system what it can."""
    work = Consolidation(Store(store.root), store.catalog, None, max_depth=50)
    for disk in work.waiting():
        work.consolidate(disk, at_once)
    return work


def test_the_file_system_says_what_it_can(sharing_path: Path) -> None:
    assert abilities_of(sharing_path) == Abilities(shares=True, punches=True)


async def test_layers_of_dropped_points_go_and_their_room_comes_back(
    store: SampleStore, tmp_path: Path
) -> None:
    writes = [Write(0, 48 * MIB, 1), Write(8 * MIB, 16 * MIB, 2), Write(16 * MIB, 16 * MIB, 3)]
    points = [store.add({DB: [write]}, sizes=SIZES) for write in writes]
    content = read_image(store.layer(points[2]), "qcow2", tmp_path)
    before = free_bytes(store.root)
    drop(store, points[0], points[1])
    work = consolidate(store)
    assert work.moved_bytes < TABLES_BYTES

    async def is_back() -> bool:
        # 8 MiB of the second are below the third, as are 24 MiB of the first below both
        return free_bytes(store.root) - before > 32 * MIB - TABLES_BYTES

    # XFS frees what removed files had in the background
    await until(is_back)
    assert sorted(path.name for path in store.layer(points[2]).parent.glob("*.qcow2")) == [
        f"{points[2].id}.qcow2"
    ]
    assert read_image(store.layer(points[2]), "qcow2", tmp_path) == content


@pytest.mark.parametrize("dropped", [(0,), (1, 2), (0, 1, 2, 3), (3,)])
def test_kept_points_stay_what_they_were(
    store: SampleStore, tmp_path: Path, dropped: tuple[int, ...]
) -> None:
    points, content = five_points(store)
    drop(store, *(points[number] for number in dropped))
    consolidate(store)
    kept = [point for number, point in enumerate(points) if number not in dropped]
    assert len(list(store.layer(points[4]).parent.glob("*.qcow2"))) == len(kept)
    for point in kept:
        assert read_image(store.layer(point), "qcow2", tmp_path) == content[point.id]
        assert is_clean(store.layer(point))
