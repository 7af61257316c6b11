# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells people what they asked to be told, through apprise.

A notification that cannot be sent is logged and forgotten: it never delays or hurts a session.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import apprise

from livebackup_receiver.checks.result import Check, CheckState
from livebackup_receiver.config import Config
from livebackup_receiver.events import Feed, SessionChanged, Subscription
from livebackup_receiver.model import SessionState

log = logging.getLogger(__name__)

Mood = Literal["success", "warning", "failure"]
MOODS: dict[CheckState, Mood] = {
    CheckState.OK: "success",
    CheckState.WARNING: "warning",
    CheckState.FAILED: "failure",
}
STOP_S = 10.0


@dataclass(frozen=True)
class Message:
    """What is sent; ``mood`` is apprise's notify type."""

    title: str
    body: str
    mood: Mood


def session_message(change: SessionChanged, wanted: Sequence[str]) -> Message | None:
    """What to say of a change; None for nearly all of them."""
    if change.alarm:
        title = f"Backup of group {change.group} stands still"
        body = f"Session {change.session}: {change.alarm}"
        return Message(title, body, "warning") if "alarms" in wanted else None
    if not change.entered or change.state not in wanted:
        return None
    if change.state is SessionState.ABORTED:
        title = f"Backup of group {change.group} failed"
        return Message(title, f"Session {change.session} was aborted: {change.reason}", "failure")
    title = f"Backup of group {change.group} is done"
    return Message(title, f"Session {change.session} is committed; its restore point is complete.", "success")


def check_messages(before: Sequence[Check], now: Sequence[Check]) -> list[Message]:
    """What to say of new results: only what has changed, and at first only what is wrong."""
    states = {check.name: check.state for check in before}
    changed = [check for check in now if check.state is not states.get(check.name, CheckState.OK)]
    return [
        Message(f"Check {check.name}: {check.state}", check.message, MOODS[check.state]) for check in changed
    ]


class Notifier:
    """Sends messages to the configured URLs; belongs to one event loop."""

    def __init__(self, config: Config) -> None:
        self._wanted = config.notify_on
        self._apprise = apprise.Apprise()
        self._sending: set[asyncio.Task[None]] = set()
        for number, url in enumerate(config.notify_urls, 1):
            if not self._apprise.add(url):
                log.error("number %d of notify_urls is no URL that apprise understands; correct it", number)

    def tell_of_checks(self, before: Sequence[Check], now: Sequence[Check]) -> None:
        """Tell of checks that begin or cease to fail."""
        if "checks" in self._wanted:
            for message in check_messages(before, now):
                self._send_soon(message)

    async def follow(self, changes: Subscription) -> None:
        """Tell of sessions until the subscription ends."""
        async for change in changes:
            message = session_message(change, self._wanted)
            if message:
                self._send_soon(message)

    async def settle(self) -> None:
        """Give what is being sent a moment to arrive."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=STOP_S)

    def _send_soon(self, message: Message) -> None:
        if len(self._apprise):
            task = asyncio.create_task(self._send(message))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, message: Message) -> None:
        try:
            sent = await self._apprise.async_notify(
                title=message.title, body=message.body, notify_type=apprise.NotifyType(message.mood)
            )
        except Exception:
            # Whatever a plugin of apprise raises must not reach the receiver.
            log.exception("a notification could not be sent: %s", message.title)
        else:
            if not sent:
                log.error("a notification could not be sent to every URL: %s", message.title)


@asynccontextmanager
async def open_notifier(config: Config, feed: Feed) -> AsyncIterator[Notifier]:
    """A notifier that tells of all sessions until the block ends, the last of them included."""
    notifier = Notifier(config)
    with feed.subscribe() as changes:
        following = asyncio.create_task(notifier.follow(changes), name="notifications")
        try:
            yield notifier
        finally:
            changes.put(None)
            await following
            await notifier.settle()
