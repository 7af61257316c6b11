# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which layers are read back today; pure.

Each day a share of the store is read, so that all of it is read once in ``days`` days. The longest unread
come first. A layer that was never read counts as if it had been due when it was made, but not on the day
when it was made: its digests were taken from what was received then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

DAY = timedelta(days=1)
# No layer is read again before this part of the time is over, or a few large ones would be read all the time.
LEAST_PART = 0.5
FIRST_OF_ALL = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Candidate:
    """A layer and what is known of it.

    :param suspect: it was merged from layers with damage
    :param unread: it could not be read the last time
    """

    vm: str
    disk: str
    point: str
    stored_bytes: int
    made_at: datetime
    checked_at: datetime | None
    suspect: bool = False
    unread: bool = False


def choose(candidates: Sequence[Candidate], *, now: datetime, days: float) -> list[Candidate]:
    """What to read now, in this order; nothing if today's share is read already.

    :param days: the whole store is read once in so many days; 0: never
    """
    if not days:
        return []
    period = timedelta(days=days)
    read_today = sum(
        each.stored_bytes for each in candidates if each.checked_at and now - each.checked_at < DAY
    )
    left = sum(each.stored_bytes for each in candidates) / days - read_today
    due = [each for each in candidates if _is_due(each, now, period)]
    chosen: list[Candidate] = []
    for each in sorted(due, key=lambda each: (_unread_since(each, period), each.point)):
        if left <= 0:
            break
        chosen.append(each)
        left -= each.stored_bytes
    return chosen


def _is_due(candidate: Candidate, now: datetime, period: timedelta) -> bool:
    if candidate.suspect:
        return True
    if candidate.checked_at is None:
        return now - candidate.made_at >= DAY
    # What could not be read yesterday may be there again.
    return now - candidate.checked_at >= (DAY if candidate.unread else period * LEAST_PART)


def _unread_since(candidate: Candidate, period: timedelta) -> datetime:
    if candidate.suspect:
        return FIRST_OF_ALL
    return candidate.checked_at or candidate.made_at - period
