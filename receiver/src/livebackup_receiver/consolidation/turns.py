# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may work on the layers of a VM: sessions at once, consolidation when no session does."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from livebackup_receiver.background import in_background
from livebackup_receiver.coordinator.attendance import STANDING_STILL
from livebackup_receiver.model import Session, SessionState

LONGEST_NAP_S = 0.2
SHARE_WHILE_SESSIONS_RUN = 0.1
LOOK_S = 0.05


def share_of(states: Iterable[SessionState]) -> float:
    """What part of its speed background work may use while sessions are in these states; pure."""
    running = list(states)
    if any(state in STANDING_STILL for state in running):
        return 0.0
    return SHARE_WHILE_SESSIONS_RUN if running else 1.0


@asynccontextmanager
async def open_share(open_sessions: Callable[[], Sequence[Session]]) -> AsyncIterator[Callable[[], float]]:
    """What part of its speed a thread may use now; kept by the loop, because threads must not look there.

    Entering waits for nothing.
    """

    def look() -> float:
        return share_of(session.state for session in open_sessions())

    share = look()

    async def watch() -> None:
        nonlocal share
        while True:
            await asyncio.sleep(LOOK_S)
            share = look()

    async with in_background(watch(), name="share"):
        yield lambda: share


class GiveWay(Exception):
    """A session wants the disk; nothing has been changed."""


@dataclass
class Pace:
    """How fast a thread may copy, and whether it has to stop; called by that thread.

    :param bytes_per_s: 0: as fast as it can
    :param share: the part of that it may use now
    """

    bytes_per_s: int
    share: Callable[[], float]
    stop: threading.Event = field(default_factory=threading.Event)
    _debt_s: float = 0.0
    _paid_at: float = field(default_factory=time.monotonic)

    def __call__(self, count: int) -> None:
        """Wait until so many bytes may be copied.

        :raise GiveWay: it has to stop
        """
        self._require_turn()
        self._pay()
        self._debt_s += count / self.bytes_per_s if self.bytes_per_s else 0
        while self._debt_s > 0 or not self.share():
            time.sleep(min(LONGEST_NAP_S, max(self._debt_s, 0.01)))
            self._require_turn()
            self._pay()

    def _pay(self) -> None:
        now = time.monotonic()
        self._debt_s = max(0.0, self._debt_s - (now - self._paid_at) * self.share())
        self._paid_at = now

    def _require_turn(self) -> None:
        if self.stop.is_set():
            raise GiveWay


class Turns:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._sessions: Counter[str] = Counter()
        self._working: dict[str, Pace] = {}
        self._left = asyncio.Condition()

    @asynccontextmanager
    async def session(self, vms: Iterable[str]) -> AsyncIterator[None]:
        """Nobody else changes layers of these VMs in the block; begins when nobody does any more."""
        wanted = set(vms)
        self._sessions.update(wanted)
        try:
            for vm in wanted & set(self._working):
                self._working[vm].stop.set()
            async with self._left:
                await self._left.wait_for(lambda: not wanted & set(self._working))
            yield
        finally:
            self._sessions.subtract(wanted)

    def is_free(self, vm: str) -> bool:
        """Whether no session uses the VM's layers, and nobody else works on them."""
        return not self._sessions[vm] and vm not in self._working

    def stop(self) -> None:
        """Have everybody give way who works on layers now."""
        for pace in self._working.values():
            pace.stop.set()

    @asynccontextmanager
    async def work(self, vm: str, pace: Pace) -> AsyncIterator[None]:
        """Work on the layers of a VM that is free, until a session wants it; see ``Pace``."""
        self._working[vm] = pace
        try:
            yield
        finally:
            del self._working[vm]
            async with self._left:
                self._left.notify_all()
