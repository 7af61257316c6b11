# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A catalog made from the store alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rebuilding import consolidate, differences, differences_of_new, ids, new_catalog, rebuilt
from sample_store import KIB, SampleStore, Write, read_image

from livebackup_receiver.catalog.chains import layers_of_disks
from livebackup_receiver.catalog.contents import load_contents
from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.catalog.points import disk_chain, list_points
from livebackup_receiver.config import Config
from livebackup_receiver.decisions import drop_points, lock_point, pin_point
from livebackup_receiver.errors import ManifestInvalid, StoreFailed
from livebackup_receiver.model import Point
from livebackup_receiver.policies import declare_policy
from livebackup_receiver.retention.policy import RetentionPolicy, Scope, ScopeKind
from livebackup_receiver.store.paths import Store

START = datetime(2026, 3, 1, 3, tzinfo=UTC)
NOW = START + timedelta(days=30)
A, B = ("db", "vd-a"), ("db", "vd-b")


@pytest.fixture
def sample(config: Config, catalog: Catalog) -> SampleStore:
    return SampleStore(config.store, catalog)


@pytest.fixture
def points(sample: SampleStore) -> list[Point]:
    """Three points of a chain, a day apart."""
    write = [Write(0, 65536, 1)]
    return [sample.add({A: write, B: write}, cut_at=START + timedelta(days=day)) for day in range(3)]


def test_every_point_comes_back_from_the_files(sample: SampleStore, points: list[Point]) -> None:
    found = rebuilt(sample.root, new_catalog(sample.root))
    assert (ids(found.points), found.ghosts, found.incomplete) == (ids(points), (), ())
    with open_catalog(new_catalog(sample.root)) as catalog, catalog.read() as db:
        assert list_points(db) == points[::-1]
        assert len(disk_chain(db, point=points[2].id, vm="db", disk="vd-b")) == 3
    assert differences_of_new(sample.root) == []


@pytest.mark.parametrize("suffix", [".qcow2", ".json"])
def test_a_point_that_misses_a_file_is_none_nor_is_what_stands_on_it_and_both_are_listed(
    sample: SampleStore, points: list[Point], suffix: str
) -> None:
    Store(sample.root).disk(*B).layer(points[1].id).with_suffix(suffix).unlink()
    found = rebuilt(sample.root, new_catalog(sample.root))
    assert ids(found.points) == [points[0].id]
    lack = (
        "its layer is missing"
        if suffix == ".qcow2"
        else "its manifest cannot be read (No such file or directory)"
    )
    assert [(each.point, each.problems, each.kept) for each in found.incomplete] == [
        (points[1].id, (f"disk vd-b of VM db: {lack}",), False),
        (points[2].id, ("disk vd-b of VM db: a layer below its own is missing",), False),
    ]


def test_what_a_whole_point_lies_on_is_kept_as_an_incomplete_one(
    sample: SampleStore, points: list[Point]
) -> None:
    """Disk b was copied in full again, so the newest point needs only disk a of the one before."""
    sample.heads.pop(B)
    newest = sample.add({A: [Write(0, KIB, 7)], B: [Write(0, KIB, 8)]}, cut_at=START + timedelta(days=3))
    Store(sample.root).disk(*B).layer(points[1].id).unlink()
    found = rebuilt(sample.root, new_catalog(sample.root))
    assert ids(found.points) == [points[0].id, points[1].id, points[2].id, newest.id]
    assert [(each.point, each.kept) for each in found.incomplete] == [
        (points[1].id, True),
        (points[2].id, True),
    ]
    with open_catalog(new_catalog(sample.root)) as catalog, catalog.read() as db:
        known = {point.id: point for point in list_points(db)}
    assert [point.complete for point in known.values()] == [True, False, False, True]
    (lost,) = known[points[1].id].missing
    assert (lost.vm, lost.reason) == ("db", "the store lacks disk vd-b of VM db: its layer is missing")


def test_decisions_and_policies_come_back(sample: SampleStore, points: list[Point]) -> None:
    store, catalog = Store(sample.root), sample.catalog
    pin_point(catalog, store, points[0].id, reason="audit", until=None)
    lock_point(catalog, store, points[1].id, until=NOW)
    scope = Scope(ScopeKind.GROUP, "nightly")
    declare_policy(catalog, store, scope, RetentionPolicy(keep_last=3), now=NOW)
    rebuilt(sample.root, new_catalog(sample.root))
    with open_catalog(new_catalog(sample.root)) as again, again.read() as db, catalog.read() as before:
        assert list_points(db) == list_points(before)
        assert load_contents(db).policies == load_contents(before).policies != ()


@pytest.mark.parametrize("shares", [False, True])
def test_a_dropped_point_does_not_come_back_but_its_layers_stay_as_long_as_they_are_needed(
    sample: SampleStore, points: list[Point], shares: bool
) -> None:
    drop_points(sample.catalog, Store(sample.root), [points[0].id], now=NOW)
    found = rebuilt(sample.root, new_catalog(sample.root))
    assert (ids(found.points), ids(found.ghosts)) == ([points[1].id, points[2].id], [points[0].id])
    with open_catalog(new_catalog(sample.root)) as catalog:
        with catalog.read() as db, sample.catalog.read() as before:
            assert ids(list_points(db)) == [points[2].id, points[1].id]
            assert layers_of_disks(db) == layers_of_disks(before)
        consolidate(sample.root, catalog, shares=shares)
        assert differences(catalog, sample.root) == []
    assert not list((sample.root / "points").iterdir())


def test_a_dropped_point_of_which_half_is_gone_is_finished(sample: SampleStore, points: list[Point]) -> None:
    """A kill came when the layer of one disk was removed, and its manifest not yet."""
    drop_points(sample.catalog, Store(sample.root), [points[2].id], now=NOW)
    directory = Store(sample.root).disk(*A)
    directory.layer(points[2].id).unlink()
    directory.digests(points[2].id).unlink()
    rebuilt(sample.root, new_catalog(sample.root))
    with open_catalog(new_catalog(sample.root)) as catalog:
        consolidate(sample.root, catalog)
        assert differences(catalog, sample.root) == []
    assert not list(sample.root.rglob(f"*{points[2].id}*"))


def test_the_mark_of_a_point_that_is_gone_goes_too(sample: SampleStore, points: list[Point]) -> None:
    store = Store(sample.root)
    drop_points(sample.catalog, store, [points[2].id], now=NOW)
    for disk in (A, B):
        for path in store.disk(*disk).files_of(points[2].id):
            path.unlink(missing_ok=True)
    rebuilt(sample.root, new_catalog(sample.root))
    assert not store.mark(points[2].id).exists()
    assert differences_of_new(sample.root) == []


def test_a_ghost_is_not_taken_from_layers_that_are_of_no_point(
    sample: SampleStore, points: list[Point]
) -> None:
    drop_points(sample.catalog, Store(sample.root), [points[1].id], now=NOW)
    Store(sample.root).disk(*B).layer(points[2].id).unlink()
    found = rebuilt(sample.root, new_catalog(sample.root))
    assert ids(found.points) == [points[0].id]
    with open_catalog(new_catalog(sample.root)) as catalog:
        consolidate(sample.root, catalog)
    assert Store(sample.root).disk(*A).layer(points[1].id).exists()
    assert read_image(Store(sample.root).disk(*A).layer(points[2].id), "qcow2", sample.root)


def test_a_manifest_that_cannot_be_read_is_listed(sample: SampleStore, points: list[Point]) -> None:
    Store(sample.root).disk(*A).manifest(points[2].id).write_text("{")
    found = rebuilt(sample.root, new_catalog(sample.root))
    assert ids(found.points) == ids(points[:2])
    (lost,) = found.incomplete
    assert lost.point == points[2].id
    assert "its manifest cannot be read" in lost.problems[0]


def test_a_manifest_at_the_wrong_place_is_none(sample: SampleStore, points: list[Point]) -> None:
    store = Store(sample.root)
    store.disk(*A).manifest(points[2].id).write_bytes(store.disk(*B).manifest(points[2].id).read_bytes())
    (lost,) = rebuilt(sample.root, new_catalog(sample.root)).incomplete
    assert "its manifest is that of point" in lost.problems[0]


def test_a_volume_that_is_not_mounted_ends_it(
    sample: SampleStore, points: list[Point], tmp_path: Path
) -> None:
    """Else every point with a disk there would be lost from the catalog."""
    directory = Store(sample.root).disk(*B).path
    volume = tmp_path / "volume"
    directory.rename(volume)
    directory.symlink_to(volume)
    assert ids(rebuilt(sample.root, new_catalog(sample.root)).points) == ids(points)
    volume.rename(tmp_path / "elsewhere")
    with pytest.raises(StoreFailed, match="is its volume mounted"):
        rebuilt(sample.root, f"sqlite:///{tmp_path}/other.sqlite3")


def test_a_decision_that_cannot_be_read_ends_it(sample: SampleStore, points: list[Point]) -> None:
    drop_points(sample.catalog, Store(sample.root), [points[0].id], now=NOW)
    Store(sample.root).mark(points[0].id).write_text("{")
    with pytest.raises(ManifestInvalid, match=points[0].id):
        rebuilt(sample.root, new_catalog(sample.root))
    with open_catalog(new_catalog(sample.root)) as catalog, catalog.read() as db:
        assert list_points(db) == []
