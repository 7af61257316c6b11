# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Long computations in a thread, which take the processor from the answers that stopped VMs wait for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from livebackup_receiver.background import in_background
from livebackup_receiver.coordinator.attendance import STANDING_STILL
from livebackup_receiver.errors import RetentionInvalid
from livebackup_receiver.state import Receiver

T = TypeVar("T")

LOOK_S = 0.05
LONGEST_S = 60.0


@dataclass
class Leisure:
    """When a thread may go on; called by that thread again and again.

    :raise RetentionInvalid: it has worked for too long, or nobody wants its result any more
    """

    undisturbed: threading.Event = field(default_factory=threading.Event)
    given_up: bool = False
    _since: float = field(default_factory=time.monotonic)

    def __call__(self) -> None:
        """Wait while VMs stand still."""
        self.undisturbed.wait()
        if self.given_up or time.monotonic() - self._since > LONGEST_S:
            raise RetentionInvalid(
                f"the forecast is not done after {LONGEST_S:g} seconds",
                "ask for an earlier date, or for fewer backups",
            )


async def at_leisure(receiver: Receiver, function: Callable[[Leisure], T]) -> T:
    """Run a function in a thread that rests while VMs stand still.

    :raise RetentionInvalid: it takes too long
    """
    leisure = Leisure()
    async with in_background(_watch(receiver, leisure), name="leisure"):
        return await asyncio.to_thread(function, leisure)


async def _watch(receiver: Receiver, leisure: Leisure) -> None:
    try:
        while True:
            if any(session.state in STANDING_STILL for session in receiver.sessions.every()):
                leisure.undisturbed.clear()
            else:
                leisure.undisturbed.set()
            await asyncio.sleep(LOOK_S)
    finally:
        leisure.given_up = True
        leisure.undisturbed.set()
