# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The periods of the calendar that a moment lies in: hour, day, ISO week, month and year of a time zone.

An hour of the wall clock that comes twice in autumn is two periods; a day is a local date, be it 23, 24 or 25
hours long. A week is of ISO 8601: it begins on Monday and belongs to the year of its Thursday.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from typing import NamedTuple


class Periods(NamedTuple):
    """The numbers of the periods that a moment lies in; of two periods the later has the greater number."""

    hourly: int
    daily: int
    weekly: int
    monthly: int
    yearly: int


def _hour(local: datetime) -> str:
    return local.replace(minute=0, second=0, microsecond=0).isoformat(sep=" ", timespec="minutes")


def _week(local: datetime) -> str:
    year, week, *dummy = local.isocalendar()
    return f"{year}-W{week:02}"


LABELS: dict[str, Callable[[datetime], str]] = {
    "hourly": _hour,
    "daily": lambda local: local.date().isoformat(),
    "weekly": _week,
    "monthly": lambda local: f"{local.year}-{local.month:02}",
    "yearly": lambda local: str(local.year),
}


class Calendar:
    """The calendar of a time zone, which works out the periods of each moment once."""

    def __init__(self, zone: tzinfo) -> None:
        self.zone = zone
        self._known: dict[datetime, Periods] = {}

    def periods(self, moment: datetime) -> Periods:
        """The periods that an aware moment lies in."""
        known = self._known.get(moment)
        if known is None:
            known = self._known[moment] = _number(moment.astimezone(self.zone))
        return known

    def label(self, rule: str, moment: datetime) -> str:
        """What people call the period of a rule that the moment lies in: ``2026-11-20``, ``2026-W47``."""
        return LABELS[rule](moment.astimezone(self.zone))

    def day_or_minute(self, moment: datetime) -> str:
        """The date, and the time of day unless it is midnight."""
        local = moment.astimezone(self.zone)
        if local.hour == local.minute == 0:
            return local.date().isoformat()
        return local.isoformat(sep=" ", timespec="minutes")


def _number(local: datetime) -> Periods:
    day = local.toordinal()
    offset = local.utcoffset() or timedelta()
    return Periods(
        # in seconds, because the offset tells apart the hours that the wall clock shows twice
        hourly=(day * 24 + local.hour) * 3600 - (offset.days * 86400 + offset.seconds),
        daily=day,
        # day 1 was a Monday
        weekly=(day - 1) // 7,
        monthly=local.year * 12 + local.month,
        yearly=local.year,
    )
