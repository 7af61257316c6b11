# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sample_records import NOW, point, session
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session as Database

from livebackup_receiver.catalog import journal as journal_module
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.journal import open_journal
from livebackup_receiver.catalog.points import has_point
from livebackup_receiver.catalog.sessions import list_sessions, load_session
from livebackup_receiver.coordinator import transitions
from livebackup_receiver.errors import CatalogFailed
from livebackup_receiver.model import SessionState

BROKEN = OperationalError("COMMIT", {}, Exception("disk I/O error"))


class FlakyCatalog(Catalog):
    """A catalog whose transactions fail as told, before or after they have taken effect."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.fail_writes_before = 0
        self.fail_writes_after = 0
        self.fail_reads = 0

    @contextmanager
    def write(self) -> Iterator[Database]:
        if self.fail_writes_before:
            self.fail_writes_before -= 1
            raise BROKEN
        with super().write() as db:
            yield db
        if self.fail_writes_after:
            self.fail_writes_after -= 1
            raise BROKEN

    @contextmanager
    def read(self) -> Iterator[Database]:
        if self.fail_reads:
            self.fail_reads -= 1
            raise BROKEN
        with super().read() as db:
            yield db


@pytest.fixture
def flaky(catalog: Catalog, config: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyCatalog]:
    monkeypatch.setattr(journal_module, "RETRY_S", 0.01)
    flaky = FlakyCatalog(catalog.url)
    yield flaky
    flaky.close()


async def test_notes_are_durable_once_settled(catalog: Catalog) -> None:
    record = session(SessionState.SEALING)
    async with open_journal(catalog) as journal:
        journal.note(record)
        await journal.settle()
        with catalog.read() as db:
            assert load_session(db, record.id) == record


async def test_what_is_noted_is_written_before_the_journal_closes(catalog: Catalog) -> None:
    record = session(SessionState.SEALING)
    async with open_journal(catalog) as journal:
        journal.note(record)
    with catalog.read() as db:
        assert load_session(db, record.id) == record


async def test_nothing_is_written_while_vms_stand_still(catalog: Catalog) -> None:
    record = session(SessionState.SEALING)
    async with open_journal(catalog) as journal:
        with journal.quiet():
            journal.note(record)
            await asyncio.sleep(0.1)
            journal.note(record)
            await asyncio.sleep(0.1)
            with catalog.read() as db:
                assert list_sessions(db) == []
        await journal.settle()
        with catalog.read() as db:
            assert len(list_sessions(db)) == 1


async def test_who_must_be_durable_does_not_wait_for_others_vms(catalog: Catalog) -> None:
    async with open_journal(catalog) as journal:
        with journal.quiet():
            journal.note(session(SessionState.JOINING))
            await asyncio.wait_for(journal.settle(), timeout=10)


async def test_the_newest_note_is_what_is_written(catalog: Catalog) -> None:
    record = session(SessionState.SEALING)
    async with open_journal(catalog) as journal:
        journal.note(record)
        transitions.enter(record, SessionState.ABORTED, now=NOW, reason="because")
        journal.note(record)
    with catalog.read() as db:
        assert load_session(db, record.id).state is SessionState.ABORTED


async def test_a_note_that_fails_is_written_again(flaky: FlakyCatalog) -> None:
    flaky.fail_writes_before = 3
    record = session(SessionState.SEALING)
    async with open_journal(flaky) as journal:
        journal.note(record)
    with flaky.read() as db:
        assert load_session(db, record.id) == record


async def test_a_commit_waits_for_a_catalog_that_is_away_only_so_long(
    flaky: FlakyCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "COMMIT_PATIENCE_S", 0.1)
    flaky.fail_writes_before = 1000
    async with open_journal(flaky) as journal:
        journal.note(session(SessionState.JOINING))
        with pytest.raises(CatalogFailed, match=r"it takes no notes for 0\.1 seconds"):
            await journal.commit(session(SessionState.COMMITTED), point())
        flaky.fail_writes_before = 0


async def test_a_journal_closes_without_its_catalog(
    flaky: FlakyCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "CLOSE_S", 0.1)
    flaky.fail_writes_before = 1000
    async with open_journal(flaky) as journal:
        journal.note(session(SessionState.JOINING))


async def test_a_commit_is_session_and_point_together(catalog: Catalog) -> None:
    record, made = session(SessionState.COMMITTED), point(NOW + timedelta(hours=1))
    async with open_journal(catalog) as journal:
        await journal.commit(record, made)
        with catalog.read() as db:
            assert load_session(db, record.id).state is SessionState.COMMITTED
            assert has_point(db, made.id)


async def test_a_commit_that_fails_leaves_neither(flaky: FlakyCatalog) -> None:
    flaky.fail_writes_before = 1
    record, made = session(SessionState.COMMITTED), point()
    async with open_journal(flaky) as journal:
        with pytest.raises(CatalogFailed, match="does not answer"):
            await journal.commit(record, made)
    with flaky.read() as db:
        assert list_sessions(db) == []
        assert not has_point(db, made.id)


async def test_a_commit_that_fails_after_it_took_effect_is_a_commit(flaky: FlakyCatalog) -> None:
    flaky.fail_writes_after = 1
    flaky.fail_reads = 3
    made = point()
    async with open_journal(flaky) as journal:
        await journal.commit(session(SessionState.COMMITTED), made)
    with flaky.read() as db:
        assert has_point(db, made.id)
