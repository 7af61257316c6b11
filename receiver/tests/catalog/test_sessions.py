# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import timedelta

import pytest
from sample_records import NOW, session

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.sessions import (
    list_sessions,
    load_session,
    newest_id,
    save_session,
    uncommitted_ids,
)
from livebackup_receiver.coordinator import transitions
from livebackup_receiver.errors import SessionUnknown
from livebackup_receiver.model import Session, SessionState


def save(catalog: Catalog, *records: Session) -> None:
    with catalog.write() as db:
        for record in records:
            save_session(db, record)


def load(catalog: Catalog, session_id: str) -> Session:
    with catalog.read() as db:
        return load_session(db, session_id)


def test_a_session_comes_back_whole(catalog: Catalog) -> None:
    record = session(SessionState.ABORTED, reason="because")
    save(catalog, record)
    assert load(catalog, record.id) == record


def test_saving_again_brings_it_up_to_date(catalog: Catalog) -> None:
    record = session(SessionState.SEALING)
    save(catalog, record)
    transitions.enter(record, SessionState.ABORTED, now=NOW, reason="because")
    record.disks[0].sent_bytes = 77
    save(catalog, record)
    save(catalog, record)
    assert load(catalog, record.id) == record


def test_an_unknown_session_is_named(catalog: Catalog) -> None:
    with pytest.raises(SessionUnknown, match="session 01X does not exist"):
        load(catalog, "01X")


def test_lists_are_newest_first_and_of_what_was_asked(catalog: Catalog) -> None:
    old = session(SessionState.COMMITTED, opened_at=NOW)
    other = session(SessionState.ABORTED, opened_at=NOW + timedelta(hours=1), group="weekly")
    new = session(SessionState.TRANSFERRING, opened_at=NOW + timedelta(hours=2))
    save(catalog, old, other, new)
    with catalog.read() as db:
        assert [each.id for each in list_sessions(db)] == [new.id, other.id, old.id]
        assert [each.id for each in list_sessions(db, group="nightly")] == [new.id, old.id]
        assert [each.id for each in list_sessions(db, ended=True)] == [other.id, old.id]
        assert [each.id for each in list_sessions(db, ended=False)] == [new.id]
        assert [each.id for each in list_sessions(db, limit=1)] == [new.id]
        assert uncommitted_ids(db) == {other.id, new.id}
        assert newest_id(db) == new.id


def test_an_empty_catalog_has_no_newest_id(catalog: Catalog) -> None:
    with catalog.read() as db:
        assert newest_id(db) is None
