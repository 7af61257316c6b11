# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rehearses groups when their plans say so, and points when somebody asks; one at a time, at leisure.

None is begun while a session is open. One that runs goes on beside a session, with the lowest priority for
processor and disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from ulid import ULID

from livebackup_receiver.background import in_background
from livebackup_receiver.catalog import recovery_plans, rehearsals
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.clock import now
from livebackup_receiver.completion import complete_in_thread
from livebackup_receiver.config import Config
from livebackup_receiver.errors import CommandFailed, RehearsalRunning, Unknown
from livebackup_receiver.model import Outcome, PointRehearsal, Session
from livebackup_receiver.rehearsal.choice import due_at
from livebackup_receiver.rehearsal.conduct import newest_complete, order_of, record
from livebackup_receiver.rehearsal.orders import Orders, carry_out
from livebackup_receiver.rehearsal.result import Rehearsal
from livebackup_receiver.store.paths import Store

log = logging.getLogger(__name__)

IDLE_S = 60.0
LOOK_S = 1.0
LEVELS = {Outcome.PASSED: logging.INFO, Outcome.COULD_NOT_RUN: logging.WARNING}
STOPPED = "the receiver was stopped before it was done"


@dataclass(frozen=True)
class Rehearsing:
    """What a rehearser works with; ``open_sessions`` gives the sessions that have not ended."""

    store: Store
    catalog: Catalog
    config: Config
    open_sessions: Callable[[], Sequence[Session]]


class Rehearser:
    """Belongs to one event loop; made by ``open_rehearser``."""

    def __init__(self, means: Rehearsing) -> None:
        self._means = means
        self._asked: asyncio.Queue[Rehearsal] = asyncio.Queue()
        self.running: Rehearsal | None = None

    async def ask(self, point: str, vms: Sequence[str] = ()) -> Rehearsal:
        """Have a point rehearsed soon; what is known of that by now.

        :raise RehearsalRunning: another one is not done
        :raise PointUnknown: there is no such point
        :raise VmUnknown: it does not hold one of the VMs
        """
        begun = await asyncio.to_thread(self._begin, point, vms)
        if self.running is not None:
            raise RehearsalRunning(self.running.id, self.running.group)
        self.running = begun
        self._asked.put_nowait(begun)
        return begun

    async def repeat(self) -> None:
        """Rehearse what is asked for or due, for ever."""
        while True:
            if self._asked.empty():
                await self._look_safely()
            begun = None
            with suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S):
                    begun = await self._asked.get()
            if begun is not None:
                await self._rehearse_safely(begun)
                self.running = None

    async def conclude(self) -> None:
        """What is begun and not done could not run; nobody works on it any more."""
        if self.running is not None:
            await self._give_up(self.running, STOPPED)

    async def _look_safely(self) -> None:
        try:
            await self._look()
        except Exception:
            log.exception("which groups are to be rehearsed cannot be found out; it is tried again later")

    async def _rehearse_safely(self, begun: Rehearsal) -> None:
        try:
            await self._rehearse(begun)
        except Exception:
            log.exception("rehearsal %s of group %s failed", begun.id, begun.group)
            # What cannot even be noted is due again at once.
            await asyncio.sleep(IDLE_S)

    async def _look(self) -> None:
        """Begin the first that is due."""
        for group in await asyncio.to_thread(self._due):
            with suppress(Unknown, RehearsalRunning):
                await self.ask(await asyncio.to_thread(newest_complete, self._means.catalog, group))

    def _due(self) -> list[str]:
        moment = now()
        with self._means.catalog.read() as db:
            declared = recovery_plans.load_plans(db)
            last = {each.group: rehearsals.newest_whole(db, each.group) for each in declared}
        found = []
        for each in declared:
            newest = last[each.group]
            at = due_at(each, newest.started_at if newest else None)
            if at is not None and at <= moment:
                found.append(each.group)
        return found

    def _begin(self, point: str, vms: Sequence[str]) -> Rehearsal:
        order = order_of(self._means.catalog, str(ULID()), point, vms)
        return Rehearsal(
            id=order.id,
            group=order.point.group,
            point=point,
            vms=list(order.vms),
            whole=order.whole,
            outcome=Outcome.RUNNING,
            started_at=now(),
        )

    async def _rehearse(self, begun: Rehearsal) -> None:
        try:
            while self._means.open_sessions():  # noqa: ASYNC110 - nobody tells that the last one has ended
                await asyncio.sleep(LOOK_S)
            await carry_out(
                Orders(
                    config=self._means.config.model_dump(mode="json"),
                    id=begun.id,
                    point=begun.point,
                    vms=[] if begun.whole else begun.vms,
                )
            )
        except CommandFailed as error:
            await self._give_up(begun, error.last_words)
        await self._tell(begun)

    async def _give_up(self, begun: Rehearsal, reason: str) -> None:
        """Keep that it could not run, unless the process has kept something before it ended."""
        if self._means.store.rehearsal(begun.id).is_dir():
            return
        result = begun.model_copy(
            update={"outcome": Outcome.COULD_NOT_RUN, "reason": reason, "ended_at": now()}
        )
        most = self._means.config.rehearsals_kept
        try:
            await complete_in_thread(record, self._means.catalog, self._means.store, result, {}, most=most)
        except OSError as error:
            log.error("rehearsal %s could not run (%s), and that cannot be kept: %s", begun.id, reason, error)

    async def _tell(self, begun: Rehearsal) -> None:
        found = await asyncio.to_thread(self._found, begun.id)
        if found is not None:
            words = f"{found.outcome.words}{f', {found.reason}' if found.reason else ''}"
            level = LEVELS.get(found.outcome, logging.ERROR)
            log.log(level, "rehearsal %s of group %s: %s", begun.id, begun.group, words)

    def _found(self, rehearsal: str) -> PointRehearsal | None:
        with self._means.catalog.read() as db:
            return rehearsals.find_rehearsal(db, rehearsal)


@asynccontextmanager
async def open_rehearser(means: Rehearsing) -> AsyncIterator[Rehearser]:
    """A rehearser that works until the block ends."""
    rehearser = Rehearser(means)
    try:
        async with in_background(rehearser.repeat(), name="rehearsals"):
            yield rehearser
    finally:
        await rehearser.conclude()
