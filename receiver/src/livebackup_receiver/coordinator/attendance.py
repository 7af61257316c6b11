# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has been heard of, and who has been silent for too long."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from livebackup_receiver.model import ParticipantState, SessionState

# While VMs stand still, a participant that says nothing for its budget and this much more is gone.
GRACE_S = 5.0
STANDING_STILL = (SessionState.STOPPING, SessionState.CUTTING)
# One that has sent everything is no longer needed for the commit.
NEEDED = (
    ParticipantState.JOINED,
    ParticipantState.PREPARED,
    ParticipantState.STOPPED,
    ParticipantState.CUT,
    ParticipantState.TRANSFERRING,
)


class Attendance:
    """When each host of a session was last heard of; an open request counts as being heard."""

    def __init__(
        self, *, silence_s: float, stop_budget_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._silence_s = silence_s
        self._stop_budget_s = stop_budget_s
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._listening: Counter[str] = Counter()

    def hear(self, host: str) -> None:
        """A host has said something."""
        self._heard[host] = self._clock()

    @contextmanager
    def listening(self, host: str) -> Iterator[None]:
        """A host waits for an answer until the block ends."""
        self._listening[host] += 1
        try:
            yield
        finally:
            self._listening[host] -= 1
            self.hear(host)

    def limit_s(self, state: SessionState) -> float:
        """The silence that is too long in a state of the session, in seconds."""
        return self._stop_budget_s + GRACE_S if state in STANDING_STILL else self._silence_s

    def silence_s(self, host: str) -> float:
        """For how long a host has said nothing, in seconds."""
        return 0.0 if self._listening[host] else self._clock() - self._heard.get(host, self._clock())
