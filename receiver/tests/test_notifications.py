# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notifications, sent by apprise to a real HTTP server."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sample_records import session

from livebackup_receiver.checks.result import Check, CheckState
from livebackup_receiver.config import Config
from livebackup_receiver.events import Feed, SessionChanged
from livebackup_receiver.model import SessionState
from livebackup_receiver.notifications import check_messages, open_notifier, session_message

# A plugin of apprise still imports a module that Python 3.13 has dropped.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

ABORTED = SessionChanged.of(session(SessionState.ABORTED, reason="hv1 was silent"), entered=True)
COMMITTED = SessionChanged.of(session(SessionState.COMMITTED), entered=True)


class Inbox:
    """An HTTP server that keeps the JSON bodies it is sent."""

    def __init__(self) -> None:
        self.bodies: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        self.bodies.put_nowait(json.loads(await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    inbox = Inbox()
    server = await asyncio.start_server(inbox.answer, "127.0.0.1", 0)
    inbox.url = f"json://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield inbox


def notifying(config: Config, *urls: str, **options: Any) -> Config:
    return config.model_copy(update={"notify_urls": list(urls), **options})


def check(name: str, state: CheckState) -> Check:
    return Check(name=name, state=state, message=f"{name} is {state}")


def test_a_standstill_is_told_if_wanted() -> None:
    change = SessionChanged.of(session(), entered=True, alarm="no progress of hv1")
    message = session_message(change, ["alarms"])
    assert message is not None
    assert (message.mood, message.body.endswith("no progress of hv1")) == ("warning", True)
    assert session_message(change, ["aborted", "committed", "checks"]) is None


async def test_an_aborted_session_is_told_with_its_reason(config: Config, inbox: Inbox) -> None:
    feed = Feed()
    async with open_notifier(notifying(config, inbox.url), feed):
        feed.publish(ABORTED)
        body = await inbox.bodies.get()
    assert body["title"] == "Backup of group nightly failed"
    assert "hv1 was silent" in body["message"]
    assert body["type"] == "failure"


async def test_what_happens_last_is_still_told(config: Config, inbox: Inbox) -> None:
    feed = Feed()
    async with open_notifier(notifying(config, inbox.url), feed):
        feed.publish(ABORTED)
    assert inbox.bodies.qsize() == 1


async def test_a_server_that_does_not_answer_is_logged_and_hurts_nobody(
    config: Config, inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    feed = Feed()
    with caplog.at_level(logging.ERROR):
        async with open_notifier(notifying(config, "json://127.0.0.1:9", inbox.url), feed):
            feed.publish(ABORTED)
            await inbox.bodies.get()
    assert "a notification could not be sent to every URL: Backup of group nightly failed" in caplog.text


async def test_checks_are_told_when_they_begin_and_cease_to_fail(config: Config, inbox: Inbox) -> None:
    good, bad = [check("store", CheckState.OK)], [check("store", CheckState.FAILED)]
    async with open_notifier(notifying(config, inbox.url), Feed()) as notifier:
        notifier.tell_of_checks([], bad)
        assert (await inbox.bodies.get())["title"] == "Check store: failed"
        notifier.tell_of_checks(bad, good)
        assert (await inbox.bodies.get())["type"] == "success"


async def test_only_what_is_asked_for_is_told(config: Config, inbox: Inbox) -> None:
    feed = Feed()
    async with open_notifier(notifying(config, inbox.url, notify_on=["committed"]), feed) as notifier:
        notifier.tell_of_checks([], [check("store", CheckState.FAILED)])
        feed.publish(ABORTED)
        feed.publish(COMMITTED)
        assert (await inbox.bodies.get())["title"] == "Backup of group nightly is done"
    assert inbox.bodies.empty()


def test_progress_is_never_told() -> None:
    assert session_message(SessionChanged.of(session(), entered=False), ["aborted", "committed"]) is None
    assert session_message(SessionChanged.of(session(), entered=True), ["aborted", "committed"]) is None


def test_results_that_stay_as_they_are_are_not_told_again() -> None:
    bad = [check("store", CheckState.FAILED)]
    assert check_messages(bad, bad) == []
    assert check_messages([], [check("store", CheckState.OK)]) == []
