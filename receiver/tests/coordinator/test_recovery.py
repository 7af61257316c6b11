# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sample_records import new_id, session
from sample_store import SampleStore, Write

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.sessions import load_session, save_session
from livebackup_receiver.coordinator.recovery import leftovers, recover
from livebackup_receiver.model import SessionState, TransferState
from livebackup_receiver.store.marks import Mark, write_marks
from livebackup_receiver.store.paths import Store

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def save(catalog: Catalog, state: SessionState) -> str:
    record = session(state)
    with catalog.write() as db:
        save_session(db, record)
    return record.id


@pytest.mark.parametrize("state", [state for state in SessionState if not state.ended])
def test_an_open_session_is_aborted_and_says_why(
    catalog: Catalog, tmp_path: Path, state: SessionState
) -> None:
    session_id = save(catalog, state)
    recover(catalog, Store(tmp_path), now=NOW)
    with catalog.read() as db:
        record = load_session(db, session_id)
    assert (record.state, record.ended_at) == (SessionState.ABORTED, NOW)
    assert record.reason == f"the receiver was restarted while the session was {state}; run the backup again"
    assert record.transitions[-1].reason == record.reason
    assert {disk.state for disk in record.disks} == {TransferState.FAILED}


def test_files_of_an_open_session_go_and_those_of_a_point_stay(catalog: Catalog, tmp_path: Path) -> None:
    point = SampleStore(tmp_path, catalog).add({("db", "vd-a"): [Write(0, 65536, 1)]})
    session_id = save(catalog, SessionState.SEALING)
    disk = Store(tmp_path).disk("db", "vd-a")
    for path in disk.files_of(session_id):
        path.write_bytes(b"unfinished")
    recover(catalog, Store(tmp_path), now=NOW)
    assert sorted(path.name for path in disk.path.iterdir()) == [
        f"{point.id}.{suffix}" for suffix in ("digests", "json", "qcow2")
    ]


def test_layers_outlive_a_lost_catalog(catalog: Catalog, tmp_path: Path) -> None:
    """Ids that the catalog has never heard of are no proof that a layer is garbage."""
    disk = Store(tmp_path).disk("db", "vd-a")
    disk.path.mkdir(parents=True)
    point = new_id()
    disk.layer(point).write_bytes(b"a layer")
    disk.manifest(point).write_bytes(b"its manifest")
    recover(catalog, Store(tmp_path), now=NOW)
    assert disk.layer(point).exists()
    assert disk.manifest(point).exists()


def leave_mark(store: Store, point: str, **decided: Any) -> Path:
    write_marks(store, [Mark(point=point, **decided)])
    return store.mark(point)


def test_a_dropped_point_of_which_nothing_is_left_leaves_no_mark(catalog: Catalog, tmp_path: Path) -> None:
    """A kill came when the catalog had forgotten its layers, and its mark was still there."""
    store = Store(tmp_path)
    mark = leave_mark(store, new_id(), dropped_at=NOW)
    recover(catalog, store, now=NOW)
    assert not mark.exists()


def test_what_else_is_decided_stays(catalog: Catalog, tmp_path: Path) -> None:
    store = Store(tmp_path)
    sample = SampleStore(tmp_path, catalog)
    known = sample.add({("db", "vd-a"): [Write(0, 65536, 1)]})
    in_store = new_id()
    store.disk("db", "vd-a").manifest(in_store).write_bytes(b"what a lost catalog knew")
    marks = [
        leave_mark(store, known.id, dropped_at=NOW),
        leave_mark(store, in_store, dropped_at=NOW),
        leave_mark(store, new_id(), locked_until=NOW),
    ]
    sample.layer(known).unlink()
    recover(catalog, store, now=NOW)
    assert [mark.exists() for mark in marks] == [True, True, True]


def test_nobody_knows_what_is_left_on_a_volume_that_is_not_there(
    catalog: Catalog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    mark = leave_mark(store, new_id(), dropped_at=NOW)
    store.disk("db", "vd-a").path.parent.mkdir(parents=True)
    store.disk("db", "vd-a").path.symlink_to(tmp_path / "volume")
    recover(catalog, store, now=NOW)
    assert mark.exists()
    assert "is its volume mounted?" in caplog.text


def test_what_is_in_flight_is_never_a_point() -> None:
    gone, kept = "01JD000000000000000000001A", "01JD000000000000000000002A"
    names = [
        f"{kept}.qcow2",
        f"{kept}.json",
        f"{gone}.qcow2",
        f"{gone}.json",
        f"{kept}.json.tmp",
        "x.partial",
    ]
    found = leftovers([Path("/store", name) for name in names], uncommitted={gone})
    assert [path.name for path in found] == [f"{gone}.qcow2", f"{gone}.json", f"{kept}.json.tmp", "x.partial"]
