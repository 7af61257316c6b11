# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sample_records import session
from sample_store import SampleStore, Write

from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.catalog.points import disk_chain, list_points
from livebackup_receiver.catalog.rebuild import rebuild
from livebackup_receiver.catalog.sessions import save_session
from livebackup_receiver.errors import ManifestInvalid
from livebackup_receiver.model import Point, SessionState
from livebackup_receiver.store.paths import Store

START = datetime(2026, 3, 1, 3, tzinfo=UTC)
A, B = ("db", "vd-a"), ("db", "vd-b")


@pytest.fixture
def points(catalog: Catalog, tmp_path: Path) -> list[Point]:
    """Three points of a chain, a day apart."""
    sample = SampleStore(tmp_path, catalog)
    write = [Write(0, 65536, 1)]
    return [sample.add({A: write, B: write}, cut_at=START + timedelta(days=day)) for day in range(3)]


@pytest.fixture
def lost(tmp_path: Path) -> str:
    """The URL of a new catalog beside the old store."""
    return f"sqlite:///{tmp_path}/new.sqlite3"


def rebuilt(url: str, root: Path) -> list[str]:
    with open_catalog(url) as catalog:
        return [point.id for point in rebuild(catalog, Store(root))]


def test_every_point_comes_back_from_the_files(points: list[Point], lost: str, tmp_path: Path) -> None:
    assert rebuilt(lost, tmp_path) == [point.id for point in points]
    with open_catalog(lost) as catalog, catalog.read() as db:
        found = list_points(db)
        assert [point.vms for point in found] == [point.vms for point in reversed(points)]
        assert len(disk_chain(db, point=points[2].id, vm="db", disk="vd-b")) == 3


def test_what_the_catalog_has_is_left_alone(points: list[Point], lost: str, tmp_path: Path) -> None:
    rebuilt(lost, tmp_path)
    assert rebuilt(lost, tmp_path) == []


@pytest.mark.parametrize("suffix", [".qcow2", ".json"])
def test_a_point_that_misses_a_file_is_none_nor_is_what_stands_on_it(
    points: list[Point], lost: str, tmp_path: Path, suffix: str
) -> None:
    Store(tmp_path).disk(*B).layer(points[1].id).with_suffix(suffix).unlink()
    assert rebuilt(lost, tmp_path) == [points[0].id]


def test_a_session_known_as_not_committed_does_not_come_back(
    points: list[Point], lost: str, tmp_path: Path
) -> None:
    with open_catalog(lost) as catalog, catalog.write() as db:
        save_session(db, session(SessionState.ABORTED, id=points[2].id))
    assert rebuilt(lost, tmp_path) == [points[0].id, points[1].id]


def test_a_manifest_that_cannot_be_read_is_named(points: list[Point], lost: str, tmp_path: Path) -> None:
    Store(tmp_path).disk(*A).manifest(points[0].id).write_text("{")
    with pytest.raises(ManifestInvalid, match=points[0].id):
        rebuilt(lost, tmp_path)
