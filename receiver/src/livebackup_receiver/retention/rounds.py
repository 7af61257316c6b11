# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Retention applied by the receiver itself: after each backup of a group, and once an hour to all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from livebackup_receiver.background import in_background
from livebackup_receiver.catalog.policies import groups_in
from livebackup_receiver.completion import complete_in_thread
from livebackup_receiver.coordinator.attendance import STANDING_STILL
from livebackup_receiver.events import Feed, Subscription
from livebackup_receiver.model import Session, SessionState
from livebackup_receiver.retention.declared import in_force
from livebackup_receiver.retention.local import LocalRetention

log = logging.getLogger(__name__)

INTERVAL = timedelta(hours=1)
POSTPONE_S = 2.0


class Rounds:
    """Belongs to one event loop.

    :param open_sessions: gives the sessions that have not ended
    :param on_dropped: called after points were dropped
    """

    def __init__(
        self,
        retention: LocalRetention,
        open_sessions: Callable[[], Sequence[Session]],
        on_dropped: Callable[[], None],
    ) -> None:
        self._retention = retention
        self._open_sessions = open_sessions
        self._on_dropped = on_dropped
        self._committed: set[str] = set()
        self._due: set[str] = set()
        self._wanted = asyncio.Event()

    async def follow(self, changes: Subscription) -> None:
        """Note each group that has a new point, until the subscription ends."""
        async for change in changes:
            if change.entered and change.state is SessionState.COMMITTED:
                self._committed.add(change.group)
                self._wanted.set()

    async def repeat(self) -> None:
        """Go round for ever: now, after each commit, and every hour."""
        loop = asyncio.get_running_loop()
        everyone_at = loop.time()
        while True:
            everyone = loop.time() >= everyone_at
            if everyone:
                everyone_at = loop.time() + INTERVAL.total_seconds()
            self._wanted.clear()
            await self._look(everyone=everyone)
            await self._go_round()
            with suppress(TimeoutError):
                async with asyncio.timeout(POSTPONE_S if self._due else everyone_at - loop.time()):
                    await self._wanted.wait()

    async def _look(self, *, everyone: bool) -> None:
        """Find out for which groups retention is due."""
        if not everyone and not self._committed:
            return
        committed, self._committed = self._committed, set()
        try:
            governed = set(await asyncio.to_thread(self._governed))
        except Exception:
            log.exception("the policies cannot be read; they are applied with the next round")
        else:
            self._due |= governed if everyone else governed & committed

    async def _go_round(self) -> None:
        for group in sorted(self._due):
            if not self._postponed(group):
                self._due.discard(group)
                await self._apply(group)

    def _governed(self) -> list[str]:
        """The groups that any policy is for."""
        policies = self._retention.policies()
        with self._retention.catalog.read() as db:
            return groups_in(db, [each.scope for each in in_force(policies)])

    def _postponed(self, group: str) -> bool:
        """Whether judging would disturb a cut, or the group's own commit."""
        sessions = self._open_sessions()
        return any(
            each.state in STANDING_STILL or (each.group == group and each.state is SessionState.SEALING)
            for each in sessions
        )

    async def _apply(self, group: str) -> None:
        try:
            applied = await complete_in_thread(self._retention.apply, group)
        except Exception:
            # Whatever it is: what was not dropped is there, and backups go on.
            log.exception("group %s: retention failed; it is tried again with the next round", group)
        else:
            if applied.dropped:
                self._on_dropped()


@asynccontextmanager
async def open_rounds(
    retention: LocalRetention,
    feed: Feed,
    open_sessions: Callable[[], Sequence[Session]],
    on_dropped: Callable[[], None],
) -> AsyncIterator[Rounds]:
    """Rounds that go on until the block ends."""
    rounds = Rounds(retention, open_sessions, on_dropped)
    with feed.subscribe() as changes:
        async with (
            in_background(rounds.follow(changes), name="retention commits"),
            in_background(rounds.repeat(), name="retention"),
        ):
            yield rounds
