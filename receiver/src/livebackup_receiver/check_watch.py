# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the checks again and again while the receiver serves, and keeps their newest results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from livebackup_receiver.background import in_background
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.checks.result import Check, Inspection
from livebackup_receiver.checks.table import run_checks
from livebackup_receiver.config import Config
from livebackup_receiver.coordinator.attendance import STANDING_STILL
from livebackup_receiver.model import Session

POSTPONE_S = 1.0

OnResults = Callable[[Sequence[Check], Sequence[Check]], None]


class CheckWatch:
    """The newest results; belongs to one event loop.

    :param open_sessions: gives the sessions that have not ended
    :param on_results: told the results before and now, after every run
    """

    def __init__(
        self,
        config: Config,
        catalog: Catalog,
        open_sessions: Callable[[], Sequence[Session]],
        on_results: OnResults,
    ) -> None:
        self._config = config
        self._catalog = catalog
        self._open_sessions = open_sessions
        self._on_results = on_results
        self._running = asyncio.Lock()
        self.latest: list[Check] = []
        self.ran_at: datetime | None = None

    async def run(self) -> list[Check]:
        """Run every check now."""
        async with self._running:
            now = datetime.now(UTC)
            before = self.latest
            self.latest = await run_checks(Inspection(self._config, self._catalog, self._open_sessions, now))
            self.ran_at = now
            self._on_results(before, self.latest)
        return self.latest

    async def repeat(self) -> None:
        """Run them now and then every ``check_interval_s``, for ever, but not while VMs stand still."""
        while True:
            postponed = any(session.state in STANDING_STILL for session in self._open_sessions())
            if not postponed:
                await self.run()
            await asyncio.sleep(POSTPONE_S if postponed else self._config.check_interval_s)


@asynccontextmanager
async def open_check_watch(
    config: Config, catalog: Catalog, open_sessions: Callable[[], Sequence[Session]], on_results: OnResults
) -> AsyncIterator[CheckWatch]:
    """A watch that runs the checks until the block ends."""
    watch = CheckWatch(config, catalog, open_sessions, on_results)
    async with in_background(watch.repeat(), name="checks"):
        yield watch
