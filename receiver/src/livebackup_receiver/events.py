# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The feed of changes: the coordinator publishes, the page, the API and notifications subscribe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from livebackup_receiver.model import Session, SessionState

QUEUE_LENGTH = 256


@dataclass(frozen=True)
class SessionChanged:
    """A session changed its state (``entered`` is true) or only its progress.

    ``alarm`` is one that was raised just now.
    """

    session: str
    group: str
    state: SessionState
    reason: str | None
    entered: bool
    alarm: str | None = None

    @classmethod
    def of(cls, session: Session, *, entered: bool, alarm: str | None = None) -> SessionChanged:
        return cls(session.id, session.group, session.state, session.reason, entered, alarm)


class Subscription:
    """One subscriber's queue; iterate over it until the feed closes."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[SessionChanged | None] = asyncio.Queue(QUEUE_LENGTH)

    def put(self, event: SessionChanged | None) -> None:
        """Never waits: a subscriber that does not keep up loses its oldest event."""
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(event)

    async def __aiter__(self) -> AsyncIterator[SessionChanged]:
        while (event := await self._queue.get()) is not None:
            yield event


class Feed:
    """Publishes to every subscriber; belongs to one event loop."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self._closed = False

    def publish(self, event: SessionChanged) -> None:
        for subscription in self._subscriptions:
            subscription.put(event)

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """A subscription to everything published from now on, until the block ends."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        if self._closed:
            subscription.put(None)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End every subscription, so that open streams let the receiver stop."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.put(None)
