# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from sample_records import NOW, point, session
from sqlalchemy.exc import OperationalError

from livebackup_receiver.catalog.journal import Journal
from livebackup_receiver.catalog.points import add_point
from livebackup_receiver.catalog.sessions import save_session
from livebackup_receiver.config import Config
from livebackup_receiver.coordinator import registry
from livebackup_receiver.coordinator.opening import Opening
from livebackup_receiver.daemon import open_receiver
from livebackup_receiver.errors import CatalogFailed, NotReady, SessionUnknown
from livebackup_receiver.model import SessionState
from livebackup_receiver.state import Receiver

OPENING = Opening(group="nightly", hosts=["hv1"])


async def test_no_session_is_opened_while_the_receiver_stops(receiver: Receiver) -> None:
    await receiver.sessions.stop()
    with pytest.raises(NotReady, match="the receiver is stopping"):
        await receiver.sessions.open(OPENING)


async def test_stopping_aborts_what_runs(receiver: Receiver) -> None:
    opened = await receiver.sessions.open(OPENING)
    await receiver.sessions.stop()
    assert receiver.sessions.every() == []
    record = await receiver.sessions.get(opened.id)
    assert (record.state, record.reason) == (
        SessionState.ABORTED,
        "the receiver was stopped while the session ran; run the backup again",
    )


async def test_a_session_that_the_catalog_does_not_take_is_not_open(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OperationalError("INSERT", {}, Exception("database is locked"))

    monkeypatch.setattr(registry, "OPENING_TIMEOUT_S", 0.1)
    monkeypatch.setattr("livebackup_receiver.catalog.journal.RETRY_S", 0.01)
    with monkeypatch.context() as broken:
        broken.setattr(Journal, "_write", refuse)
        with pytest.raises(CatalogFailed, match="the opening of a session is not written"):
            await receiver.sessions.open(OPENING)
    await receiver.sessions.stop()
    (record,) = await receiver.sessions.list()
    assert record.state is SessionState.ABORTED


async def test_ids_are_greater_than_any_in_the_catalog(receiver: Receiver) -> None:
    from_the_future = "7ZZZZZZZZZZZZZZZZZZZZZZZ00"
    with receiver.catalog.write() as db:
        add_point(db, point(id=from_the_future))
        save_session(db, session(SessionState.ABORTED, opened_at=NOW))
    async with registry.open_sessions(receiver.sessions._stage, receiver.feed) as sessions:
        opened = await sessions.open(OPENING)
    assert opened.id > from_the_future


async def test_an_unknown_session_is_named(receiver: Receiver) -> None:
    with pytest.raises(SessionUnknown, match="session 01X does not exist"):
        await receiver.sessions.get("01X")
    with pytest.raises(SessionUnknown):
        await receiver.sessions.abort("01X", "because")


async def test_sessions_of_an_earlier_run_are_listed(config: Config) -> None:
    async with open_receiver(config) as receiver:
        opened = await receiver.sessions.open(OPENING)
    async with open_receiver(config) as receiver:
        assert [each.id for each in await receiver.sessions.list(group="nightly", ended=True)] == [opened.id]
        assert await receiver.sessions.list(group="weekly") == []
