# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each way in which store and catalog can differ is said in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sample_records import new_id, session
from sample_store import SampleStore, Write, run
from sqlalchemy import delete, update

from livebackup_receiver.catalog.comparison import Kind, compare
from livebackup_receiver.catalog.contents import load_contents
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.schema import PointDiskRow, PointRow, PointVmRow
from livebackup_receiver.catalog.sessions import save_session
from livebackup_receiver.config import Config
from livebackup_receiver.decisions import drop_points, lock_point, pin_point
from livebackup_receiver.model import Point, SessionState
from livebackup_receiver.policies import declare_policy
from livebackup_receiver.retention.policy import RetentionPolicy, Scope, ScopeKind
from livebackup_receiver.store.inventory import take_inventory
from livebackup_receiver.store.manifest import read_manifest, write_manifest
from livebackup_receiver.store.paths import Store
from livebackup_receiver.store.policies import read_policies
from livebackup_receiver.store.survey import survey

A, B = ("db", "vd-a"), ("db", "vd-b")
NOW = datetime(2026, 3, 1, 1, 2, 3, 456789, tzinfo=UTC)


@pytest.fixture
def sample(config: Config, catalog: Catalog) -> SampleStore:
    return SampleStore(config.store, catalog)


@pytest.fixture
def points(sample: SampleStore) -> list[Point]:
    return [sample.add({A: [Write(0, 65536, 1)], B: [Write(0, 65536, 1)]}) for dummy in range(2)]


def told(sample: SampleStore) -> list[tuple[Kind, str]]:
    store = Store(sample.root)
    inventory = take_inventory(store)
    with sample.catalog.read() as db:
        contents = load_contents(db)
    found = compare(inventory, survey(inventory, store), read_policies(store), contents)
    return [(each.kind, each.sentence) for each in found]


def layer(point: Point, disk: tuple[str, str] = A) -> str:
    return f"vms/{disk[0]}/{disk[1]}/{point.id}.qcow2"


def test_after_backups_there_is_nothing_to_tell(sample: SampleStore, points: list[Point]) -> None:
    assert told(sample) == []


def test_a_point_the_catalog_lacks(sample: SampleStore, points: list[Point]) -> None:
    with sample.catalog.write() as db:
        for table in (PointDiskRow, PointVmRow):
            db.execute(delete(table).where(table.point_id == points[1].id))
        db.execute(delete(PointRow).where(PointRow.id == points[1].id))
    sentence = f"point {points[1].id} of group nightly is in the store and missing in the catalog"
    assert told(sample) == [(Kind.POINT_MISSING_IN_CATALOG, sentence)]


def test_a_point_the_store_lacks(sample: SampleStore, points: list[Point]) -> None:
    for path in list(sample.root.rglob(f"{points[1].id}*")):
        path.unlink()
    found = told(sample)
    sentence = f"point {points[1].id} of group nightly is in the catalog, and the store has nothing of it"
    assert (Kind.POINT_MISSING_IN_STORE, sentence) in found
    lost = f"layer {layer(points[1], B)} is in the catalog and missing in the store"
    assert (Kind.LAYER_MISSING_IN_STORE, lost) in found
    assert len(found) == 3


def test_a_member_that_is_missing(sample: SampleStore, points: list[Point]) -> None:
    for path in list((sample.root / "vms/db/vd-b").glob(f"{points[1].id}*")):
        path.unlink()
    assert told(sample) == [
        (
            Kind.POINT_INCOMPLETE,
            f"point {points[1].id} of group nightly is not whole in the store: disk vd-b of VM db: "
            "its layer is missing",
        ),
        (
            Kind.LAYER_MISSING_IN_STORE,
            f"layer {layer(points[1], B)} is in the catalog and missing in the store",
        ),
    ]


def test_a_layer_the_catalog_lacks(sample: SampleStore, points: list[Point]) -> None:
    with sample.catalog.write() as db:
        db.execute(delete(PointDiskRow).where(PointDiskRow.disk == "vd-b"))
    assert told(sample) == [
        (
            Kind.LAYER_MISSING_IN_CATALOG,
            f"layer {layer(point, B)} is in the store and missing in the catalog",
        )
        for point in points
    ]


def test_another_size(sample: SampleStore, points: list[Point]) -> None:
    path = sample.layer(points[1])
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(bytes(65536))
    sentence = f"layer {layer(points[1])}: it has {size + 65536:,} bytes, and its manifest says {size:,}"
    assert told(sample) == [(Kind.LAYER_DIFFERS, sentence)]


def test_another_parent_in_the_catalog(sample: SampleStore, points: list[Point]) -> None:
    with sample.catalog.write() as db:
        db.execute(update(PointDiskRow).where(PointDiskRow.disk == "vd-a").values(parent=None))
    sentence = f"layer {layer(points[1])}: its parent is {points[0].id} in the store, and None in the catalog"
    assert told(sample) == [(Kind.LAYER_DIFFERS, sentence)]


def test_another_parent_in_the_layer_than_in_its_manifest(sample: SampleStore, points: list[Point]) -> None:
    run("qemu-img", "rebase", "-u", "-b", "", str(sample.layer(points[1])))
    sentence = f"layer {layer(points[1])}: it lies on None, and its manifest says {points[0].id}.qcow2"
    assert (Kind.LAYER_DIFFERS, sentence) in told(sample)


def change_digest(sample: SampleStore, point: Point) -> None:
    path = sample.layer(point).with_suffix(".json")
    write_manifest(path, read_manifest(path).model_copy(update={"root": None}))


def remove_table(sample: SampleStore, point: Point) -> None:
    sample.layer(point).with_suffix(".digests").unlink()


def leave_notes(sample: SampleStore, point: Point) -> None:
    (sample.root / "vms/db/vd-a/notes.txt").write_text("mine")


def leave_old_disk(sample: SampleStore, point: Point) -> None:
    (sample.root / "vms/db/old disk").mkdir()


def leave_manifest(sample: SampleStore, point: Point) -> None:
    manifest = read_manifest(sample.layer(point).with_suffix(".json"))
    other = manifest.model_copy(update={"point": new_id(), "members": []})
    write_manifest(sample.root / f"vms/db/vd-a/{other.point}.json", other)


def leave_intent(sample: SampleStore, point: Point) -> None:
    sample.layer(point).with_suffix(".merging").write_text("{}")


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (change_digest, Kind.LAYER_DIFFERS, "its digest is None in the store, and blake3:"),
        (remove_table, Kind.DIGESTS_MISSING, "has no digest table"),
        (leave_notes, Kind.UNKNOWN_FILE, "vms/db/vd-a/notes.txt is of unknown origin"),
        (leave_old_disk, Kind.UNKNOWN_FILE, "vms/db/old disk is of unknown origin"),
        (leave_intent, Kind.MERGE_UNFINISHED, "a merge into layer vms/db/vd-a/"),
    ],
)
def test_what_is_wrong_in_the_store(
    sample: SampleStore,
    points: list[Point],
    change: Callable[[SampleStore, Point], None],
    kind: Kind,
    words: str,
) -> None:
    change(sample, points[1])
    ((found, sentence),) = told(sample)
    assert found is kind
    assert words in sentence


def test_a_manifest_without_a_layer(sample: SampleStore, points: list[Point]) -> None:
    leave_manifest(sample, points[1])
    assert "of layer vms/db/vd-a/" in dict(told(sample))[Kind.UNKNOWN_FILE]


def test_another_decision(sample: SampleStore, points: list[Point]) -> None:
    store = Store(sample.root)
    pin_point(sample.catalog, store, points[0].id, reason="audit", until=None)
    assert told(sample) == []
    store.mark(points[0].id).unlink()
    sentence = f"point {points[0].id}: pinned for nothing in the store, and audit in the catalog"
    assert told(sample) == [(Kind.MARK_DIFFERS, sentence)]


def test_the_store_has_milliseconds(sample: SampleStore, points: list[Point]) -> None:
    lock_point(sample.catalog, Store(sample.root), points[0].id, until=NOW)
    drop_points(sample.catalog, Store(sample.root), [points[1].id], now=NOW)
    assert told(sample) == []


def test_a_decision_about_nothing(sample: SampleStore, points: list[Point]) -> None:
    gone = new_id()
    Store(sample.root).points.mkdir()
    Store(sample.root).mark(gone).write_text(f'{{"format_version": 1, "point": "{gone}", "pin_reason": "x"}}')
    sentence = f"there are decisions about point {gone} in the store, and nothing else of it"
    assert told(sample) == [(Kind.MARK_DIFFERS, sentence)]


def test_another_policy(sample: SampleStore) -> None:
    store, scope = Store(sample.root), Scope(ScopeKind.GROUP, "nightly")
    declare_policy(sample.catalog, store, scope, RetentionPolicy(keep_last=3), now=NOW)
    assert told(sample) == []
    store.policies.unlink()
    assert told(sample) == [(Kind.POLICY_DIFFERS, "the policy of group:nightly is missing in the store")]


def test_nothing_is_told_of_a_session_that_is_open(sample: SampleStore, tmp_path: Path) -> None:
    running = session(SessionState.SEALING)
    with sample.catalog.write() as db:
        save_session(db, running)
    directory = Store(sample.root).disk(*A)
    directory.path.mkdir(parents=True)
    for path in directory.files_of(running.id):
        path.write_bytes(b"unfinished")
    assert told(sample) == []
