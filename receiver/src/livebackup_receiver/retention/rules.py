# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which points one policy keeps, and by which of its rules; pure.

Each rule only ever adds: raising any number of a policy keeps no point less. All functions take the points
newest first and none that was cut after now.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice, takewhile

import humanize

from livebackup_receiver.retention.facts import PointFacts
from livebackup_receiver.retention.periods import Calendar, Periods
from livebackup_receiver.retention.policy import RetentionPolicy

Reason = tuple[PointFacts, str]


def reasons(
    policy: RetentionPolicy, points: Sequence[PointFacts], calendar: Calendar, now: datetime
) -> Iterator[Reason]:
    """Every point that the policy keeps, once for each rule that keeps it, with the rule in words.

    :param calendar: of the policy's time zone
    """
    yield from _last(policy.keep_last or 0, points)
    yield from _within(policy, points, now)
    for rule, count in policy.calendar_rules():
        yield from _calendar(rule, count, points, calendar)
    yield from _minimum(policy.minimum, points)


def _last(count: int, points: Sequence[PointFacts]) -> Iterator[Reason]:
    for rank, point in enumerate(points[:count], start=1):
        yield point, f"last {count} ({humanize.ordinal(rank)})"


def _within(policy: RetentionPolicy, points: Sequence[PointFacts], now: datetime) -> Iterator[Reason]:
    if policy.within is None:
        return
    since = policy.within.before(now, policy.zone)
    for point in takewhile(lambda point: point.cut_at >= since, points):
        yield point, f"within {policy.keep_within}"


def _calendar(rule: str, count: int, points: Sequence[PointFacts], calendar: Calendar) -> Iterator[Reason]:
    slots = _slots(rule, points, calendar)
    for period in sorted(slots, reverse=True)[:count]:
        yield slots[period], f"{rule} {calendar.label(rule, slots[period].cut_at)}"


def _slots(rule: str, points: Sequence[PointFacts], calendar: Calendar) -> dict[int, PointFacts]:
    """For each period that has points its newest complete one, or its newest if none is complete."""
    field = Periods._fields.index(rule)
    slots: dict[int, PointFacts] = {}
    for point in points:
        period = calendar.periods(point.cut_at)[field]
        holder = slots.get(period)
        if holder is None or (point.complete and not holder.complete):
            slots[period] = point
    return slots


def _minimum(count: int, points: Sequence[PointFacts]) -> Iterator[Reason]:
    # the newest, whatever else is kept: were others counted, raising another number could cost these
    for point in islice((point for point in points if point.complete), count):
        yield point, f"minimum of {count}"
