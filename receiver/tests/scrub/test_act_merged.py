# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers are read back while, before or after others are merged, dropped and freed of what is masked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from damaging import CLUSTER, flip, flip_in_file, place_of
from forked import killed_at
from reading_back import DB, NOW, checks, consolidate, drop, found, scrub
from sample_store import SampleStore, Write

from livebackup_receiver.catalog.engine import open_catalog
from livebackup_receiver.config import Config
from livebackup_receiver.consolidation.recovery import recover_merges
from livebackup_receiver.model import Point
from livebackup_receiver.scrub.finding import Result
from livebackup_receiver.store import access
from livebackup_receiver.store.paths import Store

GOOD, DAMAGED, UNREADABLE = Result.GOOD, Result.DAMAGED, Result.UNREADABLE


def test_the_holes_of_a_ghost_are_no_damage_but_everything_else_is(
    store: SampleStore, points: list[Point]
) -> None:
    layer = store.layer(points[0])
    masked, seen = place_of(layer, CLUSTER), place_of(layer, 12 * CLUSTER)
    drop(store, points[0])
    consolidate(store)
    with layer.open("rb") as file:
        assert not any(os.pread(file.fileno(), CLUSTER, masked)), "no hole was made"
    assert found(store, points[0]).result is GOOD
    flip_in_file(layer, masked)
    assert found(store, points[0]).result is GOOD
    flip_in_file(layer, seen)
    assert found(store, points[0]).ranges == [(12 * CLUSTER, CLUSTER)]


def test_what_only_one_of_two_children_masks_is_looked_at(store: SampleStore, points: list[Point]) -> None:
    flip(store.layer(points[0]), CLUSTER)
    store.heads[DB] = points[0].id
    store.add({DB: [Write(20 * CLUSTER, CLUSTER, 9)]})
    drop(store, points[0])
    assert found(store, points[0]).ranges == [(CLUSTER, CLUSTER)]


def test_a_layer_that_nobody_needs_is_not_read(store: SampleStore, points: list[Point]) -> None:
    drop(store, points[2])
    assert scrub(store, points[2]) is None
    assert checks(store) == {}


@pytest.mark.parametrize("shares", [False, True])
def test_merged_layers_are_good_again(store: SampleStore, points: list[Point], shares: bool) -> None:
    for point in points:
        scrub(store, point)
    drop(store, points[0], points[1])
    consolidate(store, shares=shares, max_depth=1)
    assert {point: check.checked_at for point, check in checks(store).items()} == {points[2].id: NOW}
    check = found(store, points[2])
    assert check.result is GOOD


def test_damage_that_is_merged_stays_known_and_is_looked_for_first(
    store: SampleStore, points: list[Point]
) -> None:
    flip(store.layer(points[0]), CLUSTER)
    flip(store.layer(points[0]), 4 * CLUSTER)
    found(store, points[0])
    drop(store, points[0], points[1])
    consolidate(store, shares=True)
    (known,) = checks(store).values()
    assert (known.point, known.result, known.checked_at) == (points[2].id, DAMAGED, None)
    assert known.ranges == [(CLUSTER, CLUSTER), (4 * CLUSTER, CLUSTER)]
    # cluster 1 was masked by the second point
    assert found(store, points[2]).ranges == [(4 * CLUSTER, CLUSTER)]


def test_a_merged_layer_of_which_a_part_was_never_read_was_never_read(
    store: SampleStore, points: list[Point]
) -> None:
    found(store, points[2])
    drop(store, points[0], points[1])
    consolidate(store, shares=True)
    assert checks(store) == {}


def test_a_merge_without_one_of_the_tables_calls_nothing_damaged(
    store: SampleStore, points: list[Point]
) -> None:
    flip_in_file(store.layer(points[0]).with_suffix(".digests"), 100)
    drop(store, points[0], points[1])
    consolidate(store, shares=True)
    check = found(store, points[2])
    assert (check.result, check.ranges) == (UNREADABLE, [])
    assert check.problem
    assert "digest table" in check.problem


def test_what_was_found_of_a_file_that_was_replaced_is_not_kept(
    store: SampleStore, points: list[Point]
) -> None:
    flip(store.layer(points[2]), 8 * CLUSTER)
    drop(store, points[0], points[1])

    def merge_meanwhile(count: int) -> None:
        consolidate(store, shares=True)

    assert scrub(store, points[2], merge_meanwhile) is None
    assert checks(store) == {}
    assert found(store, points[2]).ranges == [(8 * CLUSTER, CLUSTER)]


def test_nothing_is_said_of_a_layer_whose_merge_was_interrupted(
    config: Config, store: SampleStore, points: list[Point], tmp_path: Path
) -> None:
    """A kill came between the new name and the manifest, and no receiver has been started since."""
    drop(store, points[1])

    def merge() -> None:
        with open_catalog(config.database_url) as catalog:
            consolidate(SampleStore(store.root, catalog), shares=True)

    assert killed_at("chain.layer-replaced", 1, merge, tmp_path)
    assert scrub(store, points[2]) is None
    recover_merges(store.catalog, Store(store.root))
    assert found(store, points[2]).result is GOOD


def test_no_hole_is_made_into_a_layer_that_is_being_read(store: SampleStore, points: list[Point]) -> None:
    held: list[bool] = []

    def look(count: int) -> None:
        with (
            access.alone(store.layer(points[0])) as free,
            access.alone(store.layer(points[0]).parent) as names,
        ):
            held.extend((free, names))

    scrub(store, points[0], look)
    assert held == [False, True]
