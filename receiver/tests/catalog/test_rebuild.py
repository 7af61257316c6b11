# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A catalog made from the store alone, and from copies of the store taken at any moment."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from forked import FORK
from sample_store import KIB, SampleStore, Write, read_image, run

from livebackup_receiver import faultpoints
from livebackup_receiver.catalog.chains import layers_of_disks
from livebackup_receiver.catalog.comparison import Difference, compare
from livebackup_receiver.catalog.contents import load_contents
from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.catalog.points import disk_chain, list_points
from livebackup_receiver.catalog.rebuild import rebuild
from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.config import Config
from livebackup_receiver.consolidation.plan import Abilities
from livebackup_receiver.consolidation.worker import Consolidation
from livebackup_receiver.coordinator.recovery import recover
from livebackup_receiver.decisions import drop_points, lock_point, pin_point
from livebackup_receiver.errors import ManifestInvalid
from livebackup_receiver.model import Point
from livebackup_receiver.policies import declare_policy
from livebackup_receiver.retention.policy import RetentionPolicy, Scope, ScopeKind
from livebackup_receiver.store.ancestry import ancestry
from livebackup_receiver.store.digests import read_chain, root_of
from livebackup_receiver.store.inventory import take_inventory
from livebackup_receiver.store.paths import Store
from livebackup_receiver.store.policies import read_policies
from livebackup_receiver.store.survey import Survey, survey

START = datetime(2026, 3, 1, 3, tzinfo=UTC)
NOW = START + timedelta(days=30)
A, B = ("db", "vd-a"), ("db", "vd-b")
MERGES = [point for point, when in faultpoints.POINTS.items() if when == faultpoints.MERGE]


@pytest.fixture
def sample(config: Config, catalog: Catalog) -> SampleStore:
    return SampleStore(config.store, catalog)


@pytest.fixture
def points(sample: SampleStore) -> list[Point]:
    """Three points of a chain, a day apart."""
    write = [Write(0, 65536, 1)]
    return [sample.add({A: write, B: write}, cut_at=START + timedelta(days=day)) for day in range(3)]


def rebuilt(root: Path, url: str) -> Survey:
    with open_catalog(url) as catalog:
        return rebuild(catalog, Store(root))


def new_catalog(root: Path) -> str:
    return f"sqlite:///{root}/new.sqlite3"


def ids(points: tuple[Point, ...] | list[Point]) -> list[str]:
    return [point.id for point in points]


def differences(catalog: Catalog, root: Path) -> list[Difference]:
    store = Store(root)
    inventory = take_inventory(store)
    with catalog.read() as db:
        return compare(inventory, survey(inventory, store), read_policies(store), load_contents(db))


def differences_of_new(root: Path) -> list[str]:
    with open_catalog(new_catalog(root)) as catalog:
        return [each.sentence for each in differences(catalog, root)]


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
    sample._heads.pop(B)
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


def test_a_decision_that_cannot_be_read_ends_it(sample: SampleStore, points: list[Point]) -> None:
    drop_points(sample.catalog, Store(sample.root), [points[0].id], now=NOW)
    Store(sample.root).mark(points[0].id).write_text("{")
    with pytest.raises(ManifestInvalid, match=points[0].id):
        rebuilt(sample.root, new_catalog(sample.root))
    with open_catalog(new_catalog(sample.root)) as catalog, catalog.read() as db:
        assert list_points(db) == []


# Copies


def consolidate(root: Path, catalog: Catalog, *, shares: bool = False) -> None:
    work = Consolidation(Store(root), catalog, Abilities(shares=shares, punches=True), max_depth=1)
    for disk in work.waiting():
        work.consolidate(disk, at_once)


def copy(root: Path, target: Path) -> Path:
    """What rsync or a snapshot of the file system would give."""
    run("cp", "-a", str(root), str(target))
    return target


def require_right(root: Path, url: str, content: dict[str, bytes], scratch: Path) -> None:
    """Every point of a copy is there and reads as it did, and catalog and store say the same."""
    directory = Store(root).disk(*A)
    with open_catalog(url) as catalog:
        with catalog.read() as db:
            found = list_points(db)
        assert {point.id for point in found} == set(content)
        for point in found:
            assert read_image(directory.layer(point.id), "qcow2", scratch) == content[point.id]
            tables = read_chain([directory.digests(each) for each in ancestry(directory, point.id)])
            assert root_of(tables) == point.vms[0].disks[0].root
        assert differences(catalog, root) == []


def four_points(sample: SampleStore) -> tuple[list[Point], dict[str, bytes]]:
    points: list[Point] = []
    content: dict[str, bytes] = {}
    for number in range(4):
        cut_at = START + timedelta(days=number)
        write = Write(number * 128 * KIB, 192 * KIB, number + 1)
        points.append(sample.add({A: [write]}, cut_at=cut_at))
        content[points[-1].id] = sample.content[A]
    return points, content


def test_a_copy_opens_on_another_machine_without_its_catalog(sample: SampleStore, tmp_path: Path) -> None:
    dummy, content = four_points(sample)
    there = copy(sample.root, tmp_path / "there")
    (there / "catalog.sqlite3").unlink()
    rebuilt(there, new_catalog(there))
    require_right(there, new_catalog(there), content, tmp_path)


def _merge_and_stop(wish: Path, root: Path, url: str, shares: bool) -> None:
    os.environ[faultpoints.VARIABLE] = str(wish)
    with open_catalog(url) as catalog:
        consolidate(root, catalog, shares=shares)


def _is_stopped(pid: int | None) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("point", MERGES)
def test_a_copy_taken_in_the_middle_of_a_merge(
    config: Config, sample: SampleStore, tmp_path: Path, point: str, shares: bool
) -> None:
    points, content = four_points(sample)
    drop_points(sample.catalog, Store(sample.root), [points[0].id, points[2].id], now=NOW)
    for dropped in (points[0], points[2]):
        del content[dropped.id]
    wish = tmp_path / "wish"
    wish.write_text(f"{point}#1 hang")
    child = FORK.Process(target=_merge_and_stop, args=(wish, sample.root, config.database_url, shares))
    child.start()
    try:
        while child.is_alive() and not _is_stopped(child.pid):
            time.sleep(0.02)
        stopped = child.is_alive()
        lost, whole = copy(sample.root, tmp_path / "lost"), copy(sample.root, tmp_path / "whole")
    finally:
        if child.is_alive() and child.pid:
            os.kill(child.pid, signal.SIGKILL)
        child.join()
    only_one_way = {"chain.appended", "chain.flipped"} if shares else {"chain.merged"}
    assert stopped or point in only_one_way

    for path in lost.glob("catalog.sqlite3*"):
        path.unlink()
    rebuilt(lost, new_catalog(lost))
    require_right(lost, new_catalog(lost), content, tmp_path)
    with open_catalog(new_catalog(lost)) as catalog:
        consolidate(lost, catalog, shares=shares)
    require_right(lost, new_catalog(lost), content, tmp_path)

    with open_catalog(f"sqlite:///{whole}/catalog.sqlite3") as catalog:
        recover(catalog, Store(whole), now=NOW)
    require_right(whole, f"sqlite:///{whole}/catalog.sqlite3", content, tmp_path)
