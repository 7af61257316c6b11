# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sample_records import NOW, point, point_vm
from sample_store import SampleStore, Write
from sqlalchemy.exc import IntegrityError

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.points import (
    add_point,
    disk_chain,
    disk_points,
    has_point,
    list_points,
    load_point,
    newest_point_id,
)
from livebackup_receiver.errors import DiskUnknown, GroupUnknown, PointUnknown, VmUnknown
from livebackup_receiver.model import Point

KEY = ("db", "vd-a")


def add(catalog: Catalog, *points: Point) -> None:
    with catalog.write() as db:
        for each in points:
            add_point(db, each)


def test_a_point_comes_back_whole(catalog: Catalog) -> None:
    sample = point()
    add(catalog, sample)
    with catalog.read() as db:
        assert load_point(db, sample.id) == sample
        assert has_point(db, sample.id)
        assert not has_point(db, "01X")
        assert newest_point_id(db) == sample.id


def test_a_point_is_recorded_once(catalog: Catalog) -> None:
    sample = point()
    add(catalog, sample)
    with pytest.raises(IntegrityError):
        add(catalog, sample)


def test_lists_are_newest_first_and_of_what_was_asked(catalog: Catalog) -> None:
    old = point(NOW)
    new = point(NOW + timedelta(days=1))
    other = point(NOW + timedelta(days=2), group="weekly")
    other.vms = [point_vm("web", other.id)]
    add(catalog, old, new, other)
    with catalog.read() as db:
        assert [each.id for each in list_points(db)] == [other.id, new.id, old.id]
        assert [each.id for each in list_points(db, group="nightly")] == [new.id, old.id]
        assert [each.id for each in list_points(db, vm="web")] == [other.id]
        assert [each.id for each in list_points(db, limit=2)] == [other.id, new.id]


def test_what_is_unknown_is_named(catalog: Catalog) -> None:
    with catalog.read() as db:
        with pytest.raises(PointUnknown, match="point 01X does not exist"):
            load_point(db, "01X")
        with pytest.raises(GroupUnknown, match="group hourly has never been backed up here"):
            list_points(db, group="hourly")
        with pytest.raises(VmUnknown, match="VM mail is not in this receiver"):
            list_points(db, vm="mail")
        with pytest.raises(DiskUnknown, match="disk vd-a of VM db is not in point 01X"):
            disk_chain(db, point="01X", vm="db", disk="vd-a")


def test_a_chain_goes_from_the_point_down_to_its_full_layer(catalog: Catalog, tmp_path: Path) -> None:
    sample = SampleStore(tmp_path, catalog)
    points = [sample.add({KEY: [Write(number * 65536, 65536, 1)]}).id for number in range(3)]
    with catalog.read() as db:
        chain = disk_chain(db, point=points[1], vm="db", disk="vd-a")
        assert [each.point for each in chain] == [points[1], points[0]]
        assert [each.parent for each in chain] == [points[0], None]
        assert [each.point for each in disk_points(db, *KEY)] == points[::-1]
        assert disk_points(db, "db", "vd-z") == []
