# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions about points are in the store first, and one is taken after the other."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from held_points import DAY, hold
from sample_records import NOW

from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.catalog.points import add_point, list_points, load_point
from livebackup_receiver.config import Config
from livebackup_receiver.decisions import drop_points, lock_point, pin_point, recover_marks, unpin_point
from livebackup_receiver.errors import PointKept, PointUnknown
from livebackup_receiver.model import Point
from livebackup_receiver.store.marks import read_marks
from livebackup_receiver.store.paths import Store


@pytest.fixture
def store(config: Config) -> Store:
    return Store(config.store)


def ids(catalog: Catalog) -> list[str]:
    with catalog.read() as db:
        return [each.id for each in list_points(db, limit=10_000)]


def load(catalog: Catalog, point: Point) -> Point:
    with catalog.read() as db:
        return load_point(db, point.id)


def test_a_new_catalog_knows_what_was_decided(catalog: Catalog, store: Store, tmp_path: Path) -> None:
    pinned, locked, dropped = hold(catalog, 3, last=NOW)
    pin_point(catalog, store, pinned.id, reason="why", until=None)
    lock_point(catalog, store, locked.id, until=NOW + DAY)
    drop_points(catalog, store, [dropped.id], now=NOW)
    with open_catalog(f"sqlite:///{tmp_path}/new.sqlite3") as other:
        with other.write() as db:
            for each in (pinned, locked, dropped):
                add_point(db, each)
        recover_marks(other, store)
        assert ids(other) == [pinned.id, locked.id]
        assert load(other, pinned).pin_reason == "why"
        assert load(other, locked).locked_until == NOW + DAY


def test_of_several_points_all_or_none_are_dropped(catalog: Catalog, store: Store) -> None:
    made = hold(catalog, 3, last=NOW)
    pin_point(catalog, store, made[2].id, reason="why", until=None)
    with pytest.raises(PointKept):
        drop_points(catalog, store, [each.id for each in made], now=NOW)
    assert ids(catalog) == [each.id for each in made]
    assert [mark.point for mark in read_marks(store)] == [made[2].id]


def test_nothing_is_left_of_a_pin_that_is_taken_away(catalog: Catalog, store: Store) -> None:
    (point,) = hold(catalog, 1, last=NOW)
    pin_point(catalog, store, point.id, reason="why", until=NOW + DAY)
    unpin_point(catalog, store, point.id)
    assert load(catalog, point) == point
    assert list(store.points.iterdir()) == []


def test_many_points_are_dropped_in_a_moment(catalog: Catalog, store: Store) -> None:
    made = hold(catalog, 1500, DAY / 24, last=NOW)
    drop_points(catalog, store, [each.id for each in made[1:]], now=NOW)
    assert ids(catalog) == [made[0].id]
    assert len(read_marks(store)) == 1499


def test_a_lock_is_never_lost_to_a_drop_at_the_same_time(catalog: Catalog, store: Store) -> None:
    made = hold(catalog, 60, last=NOW)
    refused: set[str] = set()
    locked: set[str] = set()

    def drop() -> None:
        for point in made:
            try:
                drop_points(catalog, store, [point.id], now=NOW)
            except PointKept:
                refused.add(point.id)

    def lock() -> None:
        for point in reversed(made):
            try:
                lock_point(catalog, store, point.id, until=NOW + DAY)
            except PointUnknown:
                continue
            locked.add(point.id)

    threads = [threading.Thread(target=drop), threading.Thread(target=lock)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert locked == refused == set(ids(catalog))
