# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which points one policy keeps, and by which of its rules; pure.

Each rule only ever adds: raising any number of a policy keeps no point less. All functions take the points
newest first and none that was cut after now.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

import humanize

from livebackup_receiver.retention.facts import PointFacts
from livebackup_receiver.retention.periods import Calendar, Periods
from livebackup_receiver.retention.policy import RetentionPolicy


@dataclass(frozen=True)
class Kept:
    """Points that one rule keeps. A forecast asks for them thousands of times, and never for the words.

    :param words: the rule as people read it, for the point in this place
    """

    points: Sequence[PointFacts]
    words: Callable[[int], str]


def kept_by(
    policy: RetentionPolicy, points: Sequence[PointFacts], calendar: Calendar, now: datetime
) -> Iterator[Kept]:
    """What each rule of a policy keeps; a point may be kept by several.

    :param calendar: of the policy's time zone
    """
    yield _last(policy.keep_last or 0, points)
    yield _within(policy, points, now)
    for rule, count in policy.calendar_rules():
        yield _calendar(rule, count, points, calendar)
    yield _minimum(policy.minimum, points)


def cut_since(points: Sequence[PointFacts], moment: datetime) -> int:
    """How many of the points were cut at a moment or later."""
    return bisect_left(points, True, key=lambda point: point.cut_at < moment)


def _last(count: int, points: Sequence[PointFacts]) -> Kept:
    return Kept(points[:count], lambda place: f"last {count} ({humanize.ordinal(place + 1)})")


def _within(policy: RetentionPolicy, points: Sequence[PointFacts], now: datetime) -> Kept:
    count = cut_since(points, policy.within.before(now, policy.zone)) if policy.within else 0
    return Kept(points[:count], lambda dummy: f"within {policy.keep_within}")


def _calendar(rule: str, count: int, points: Sequence[PointFacts], calendar: Calendar) -> Kept:
    slots = _slots(rule, count, points, calendar)
    chosen = [slots[period] for period in sorted(slots, reverse=True)]
    return Kept(chosen, lambda place: f"{rule} {calendar.label(rule, chosen[place].cut_at)}")


def _slots(rule: str, count: int, points: Sequence[PointFacts], calendar: Calendar) -> dict[int, PointFacts]:
    """For each of the newest periods that have points its newest complete one, or its newest if none is."""
    field = Periods._fields.index(rule)
    slots: dict[int, PointFacts] = {}
    for point in points:
        period = calendar.periods(point.cut_at)[field]
        holder = slots.get(period)
        if holder is None and len(slots) == count:
            break
        if holder is None or (point.complete and not holder.complete):
            slots[period] = point
    return slots


def _minimum(count: int, points: Sequence[PointFacts]) -> Kept:
    # the newest, whatever else is kept: were others counted, raising another number could cost these
    chosen = list(islice((point for point in points if point.complete), count))
    return Kept(chosen, lambda dummy: f"minimum of {count}")
