# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests that are kept open for looking at files: one for each VM at a point, a few at once.

Starting one takes many seconds, so it is reused until nobody has used it for a while. One that crashes or
hangs ends alone; what was wrong with it is remembered for those who ask.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from ulid import ULID

from livebackup_receiver.browse.guest import Guest
from livebackup_receiver.browse.opening import open_guest
from livebackup_receiver.config import Config
from livebackup_receiver.errors import BrowseLimit, BrowseUnknown, ReceiverError
from livebackup_receiver.exports import Wanted
from livebackup_receiver.model import Model
from livebackup_receiver.restore import on_newest_chain

log = logging.getLogger(__name__)

# So many that have failed are remembered.
REMEMBERED = 20


class BrowseState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"


class Browse(Model):
    """A look into the disks of a VM at a point; ``problem`` says why it has failed."""

    id: str
    point: str
    vm: str
    state: BrowseState
    problem: str | None


@dataclass
class _Held:
    """One guest, from the request for it to its end."""

    id: str
    point: str
    vm: str
    guest: Guest | None = None
    error: ReceiverError | None = None
    users: int = 0
    used_at: float = field(default_factory=time.monotonic)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def described(self) -> Browse:
        if self.error:
            return Browse(
                id=self.id, point=self.point, vm=self.vm, state=BrowseState.FAILED, problem=str(self.error)
            )
        state = BrowseState.READY if self.guest else BrowseState.STARTING
        return Browse(id=self.id, point=self.point, vm=self.vm, state=state, problem=None)


class LiveBrowses:
    """The guests of a running receiver; belongs to one event loop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._live: dict[str, _Held] = {}
        self._failed: dict[str, _Held] = {}

    def open(self, point: str, vm: str, plan: Callable[[], Wanted]) -> Browse:
        """The guest of a VM at a point; one is started, and not waited for, if there is none.

        :param plan: what it is to see
        :raise BrowseLimit: there are as many as may be
        """
        if held := self._find(point, vm):
            held.used_at = time.monotonic()
            return held.described
        if len(self._live) >= self._config.browse_limit:
            raise BrowseLimit(self._config.browse_limit)
        held = _Held(str(ULID()), point, vm)
        self._live[held.id] = held
        held.task = asyncio.create_task(self._serve(held, plan), name=f"browse {held.id}")
        return held.described

    def find(self, point: str, vm: str) -> Browse | None:
        """The guest of a VM at a point, or the last one that has failed."""
        failed = [each for each in self._failed.values() if (each.point, each.vm) == (point, vm)]
        held = self._find(point, vm) or (failed[-1] if failed else None)
        return held.described if held else None

    def get(self, browse_id: str) -> Browse:
        """:raise BrowseUnknown: there is none, or it has ended"""
        held = self._live.get(browse_id) or self._failed.get(browse_id)
        if held is None:
            raise BrowseUnknown(browse_id)
        return held.described

    async def close(self, browse_id: str) -> None:
        """End a guest, also one that is in use.

        :raise BrowseUnknown: there is none, or it has ended
        """
        held = self._live.get(browse_id)
        if held is None and self._failed.pop(browse_id, None) is None:
            raise BrowseUnknown(browse_id)
        if held and held.task:
            held.ended.set()
            await asyncio.wait([held.task])

    async def close_all(self) -> None:
        """End every guest."""
        tasks = [held.task for held in self._live.values() if held.task]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    @asynccontextmanager
    async def use(self, browse_id: str) -> AsyncIterator[Guest]:
        """A guest that has started, which does not end for want of use while the block runs.

        :raise BrowseUnknown: there is none, or it has ended
        :raise ReceiverError: why it could not be started, or has ended
        """
        held = self._live.get(browse_id) or self._failed.get(browse_id)
        if held is None:
            raise BrowseUnknown(browse_id)
        held.users += 1
        try:
            await held.changed.wait()
            if held.error or held.guest is None:
                raise held.error or BrowseUnknown(browse_id)
            yield held.guest
        finally:
            held.users -= 1
            held.used_at = time.monotonic()

    def _find(self, point: str, vm: str) -> _Held | None:
        return next((each for each in self._live.values() if (each.point, each.vm) == (point, vm)), None)

    async def _serve(self, held: _Held, plan: Callable[[], Wanted]) -> None:
        try:
            await on_newest_chain(plan, lambda wanted: self._keep(held, wanted))
        except ReceiverError as error:
            log.error("browse=%s point=%s vm=%s: %s", held.id, held.point, held.vm, error)
            self._remember(held, error)
        except Exception as error:
            # Whoever waits for it must be told, whatever it is.
            log.exception("browse=%s point=%s vm=%s", held.id, held.point, held.vm, exc_info=error)
            self._remember(held, ReceiverError())
        finally:
            held.changed.set()
            del self._live[held.id]
            log.info("browse=%s has ended", held.id)

    async def _keep(self, held: _Held, wanted: Wanted) -> None:
        async with open_guest(wanted, self._config) as guest:
            held.guest, held.used_at = guest, time.monotonic()
            held.changed.set()
            log.info("browse=%s point=%s vm=%s is open", held.id, held.point, held.vm)
            await self._until_unused(held, guest)

    async def _until_unused(self, held: _Held, guest: Guest) -> None:
        """Wait until it is closed, or unused for long enough.

        :raise BrowseFailed: it has died
        """
        closed, died = asyncio.create_task(held.ended.wait()), asyncio.create_task(guest.wait_dead())
        try:
            while (left_s := self._left_s(held)) > 0:
                done, dummy = await asyncio.wait(
                    {closed, died}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED
                )
                if closed in done:
                    return
                if died in done:
                    raise died.result()
        finally:
            closed.cancel()
            died.cancel()

    def _left_s(self, held: _Held) -> float:
        used_at = time.monotonic() if held.users else held.used_at
        return used_at + self._config.browse_ttl_s - time.monotonic()

    def _remember(self, held: _Held, error: ReceiverError) -> None:
        held.error = error
        self._failed[held.id] = held
        for oldest in list(self._failed)[:-REMEMBERED]:
            del self._failed[oldest]


@asynccontextmanager
async def open_browses(config: Config) -> AsyncIterator[LiveBrowses]:
    """The guests of a running receiver; all end with the block."""
    browses = LiveBrowses(config)
    try:
        yield browses
    finally:
        await browses.close_all()
