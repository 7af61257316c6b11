# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What retention reads of the catalog."""

from __future__ import annotations

from datetime import timedelta

from held_points import DAY, hold
from sample_records import NOW

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.facts import StoredLayer, history_of, load_facts, load_history
from livebackup_receiver.catalog.schema import PointRow
from livebackup_receiver.retention.sizes import Layer

DISK = ("db", "vd-a")


def layer(point: str, stored: int, *, full: bool = False, dropped: bool = False) -> StoredLayer:
    return StoredLayer(point, *DISK, stored, full, dropped)


def test_kept_points_are_loaded_with_what_holds_them(catalog: Catalog) -> None:
    made = hold(catalog, 3, last=NOW, vms=("web", "db"), pin_reason="why", locked_until=NOW + DAY)
    hold(catalog, 2, last=NOW + timedelta(hours=1), group="weekly")
    with catalog.write() as db:
        row = db.get(PointRow, made[1].id)
        assert row is not None
        row.dropped_at = NOW
    with catalog.read() as db:
        facts = load_facts(db, "nightly")
    assert [each.id for each in facts] == [made[2].id, made[0].id]
    newest = facts[-1]
    assert (newest.cut_at, newest.complete, newest.group) == (NOW, True, "nightly")
    assert newest.disks == (("db", "vd-a"), ("web", "vd-a"))
    assert (newest.pin_reason, newest.pin_until, newest.locked_until) == ("why", None, NOW + DAY)
    assert newest.disks is facts[0].disks


def test_a_group_without_points_has_no_facts(catalog: Catalog) -> None:
    with catalog.read() as db:
        assert load_facts(db, "nightly") == []
        assert load_history(db, "nightly") == {}


def test_the_history_is_that_of_the_group(catalog: Catalog) -> None:
    (made,) = hold(catalog, 1)
    hold(catalog, 1, last=NOW, group="weekly")
    with catalog.read() as db:
        assert load_history(db, "nightly") == {made.id: {DISK: Layer(1 << 20, full=True)}}


def test_a_kept_layer_counts_the_dropped_ones_that_it_stands_on() -> None:
    layers = [
        layer("A", 1000, full=True, dropped=True),
        layer("B", 10, dropped=True),
        layer("C", 5),
        layer("D", 7, dropped=True),
        layer("E", 3),
    ]
    assert history_of(layers) == {"C": {DISK: Layer(1015, full=True)}, "E": {DISK: Layer(10)}}


def test_a_full_layer_stands_on_nothing() -> None:
    layers = [layer("A", 10, dropped=True), layer("B", 1000, full=True), layer("C", 5)]
    assert history_of(layers) == {"B": {DISK: Layer(1000, full=True)}, "C": {DISK: Layer(5)}}
