# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept of rehearsals: in the store first, of each group the newest, nothing that a guest planted."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from sample_records import NOW, new_id

from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.catalog.rehearsals import list_rehearsals
from livebackup_receiver.config import Config
from livebackup_receiver.errors import ManifestInvalid, RehearsalUnknown
from livebackup_receiver.model import Outcome
from livebackup_receiver.rehearsal.conduct import record, recover_rehearsals
from livebackup_receiver.rehearsal.kept import find_log, find_result, list_kept, read_log
from livebackup_receiver.rehearsal.result import Rehearsal
from livebackup_receiver.rehearsal.script import console_of
from livebackup_receiver.rehearsal.workplace import sweep, workplace
from livebackup_receiver.store.paths import Store


@pytest.fixture
def store(config: Config) -> Store:
    return Store(config.store)


def keep(catalog: Catalog, store: Store, *, hour: int, group: str = "nightly", most: int = 30) -> Rehearsal:
    began = NOW + timedelta(hours=hour)
    result = Rehearsal(
        id=new_id(began),
        group=group,
        point=new_id(),
        vms=["db"],
        whole=True,
        outcome=Outcome.PASSED,
        started_at=began,
        ended_at=began,
    )
    record(catalog, store, result, {console_of("db"): b"up"}, most=most)
    return result


def listed(catalog: Catalog, group: str = "nightly") -> list[str]:
    with catalog.read() as db:
        return [each.id for each in list_rehearsals(db, group)]


def test_of_each_group_the_newest_are_kept(catalog: Catalog, store: Store) -> None:
    other = keep(catalog, store, hour=0, group="daily", most=2)
    first, second, third = (keep(catalog, store, hour=hour, most=2) for hour in (1, 2, 3))
    assert listed(catalog) == [third.id, second.id]
    assert list_kept(store) == sorted([other.id, second.id, third.id])
    with pytest.raises(RehearsalUnknown):
        find_result(store, first.id)


def test_a_new_catalog_knows_them_and_forgets_what_is_gone(
    catalog: Catalog, store: Store, tmp_path: Path
) -> None:
    first, second = (keep(catalog, store, hour=hour) for hour in (1, 2))
    with open_catalog(f"sqlite:///{tmp_path}/new.sqlite3") as other:
        recover_rehearsals(other, store)
        assert listed(other) == [second.id, first.id]
    (store.rehearsal(first.id) / "result.json").unlink()
    (store.rehearsal(first.id) / "db.console").unlink()
    store.rehearsal(first.id).rmdir()
    recover_rehearsals(catalog, store)
    assert listed(catalog) == [second.id]


def test_one_that_cannot_be_read_hides_no_other(catalog: Catalog, store: Store, tmp_path: Path) -> None:
    first, second = (keep(catalog, store, hour=hour) for hour in (1, 2))
    (store.rehearsal(first.id) / "result.json").write_text("{}")
    with open_catalog(f"sqlite:///{tmp_path}/new.sqlite3") as other:
        recover_rehearsals(other, store)
        assert listed(other) == [second.id]
    with pytest.raises(ManifestInvalid, match=r"result\.json cannot be read"):
        find_result(store, first.id)


def test_what_was_not_kept_whole_is_removed(catalog: Catalog, store: Store) -> None:
    kept = keep(catalog, store, hour=1)
    partial = store.rehearsals / f"{new_id()}.tmp"
    partial.mkdir()
    recover_rehearsals(catalog, store)
    assert not partial.exists()
    assert find_log(store, kept.id, "db", console_of) == b"up"


@pytest.mark.parametrize("vm", ["app", "../db", ""])
def test_a_log_that_is_none_is_not_found(catalog: Catalog, store: Store, vm: str) -> None:
    kept = keep(catalog, store, hour=1)
    with pytest.raises(RehearsalUnknown):
        find_log(store, kept.id, vm, console_of)


def test_links_and_pipes_are_no_logs(tmp_path: Path) -> None:
    secret, link, pipe = tmp_path / "secret", tmp_path / "link", tmp_path / "pipe"
    secret.write_text("key")
    link.symlink_to(secret)
    os.mkfifo(pipe)
    assert [read_log(path) for path in (secret, link, pipe, tmp_path)] == [b"key", None, None, None]


def test_only_what_nobody_works_in_is_swept(store: Store) -> None:
    left = store.rehearsing / new_id()
    with workplace(store, new_id(NOW + timedelta(hours=1))) as place:
        left.mkdir()
        (left / "db.0.qcow2").write_text("written by a guest")
        sweep(store)
        assert (place.is_dir(), left.exists()) == (True, False)
    assert list(store.rehearsing.iterdir()) == []
