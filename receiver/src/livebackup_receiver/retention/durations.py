# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Spans of time as people write them: ``36h``, ``14d``, ``8w``, ``6m`` (months), ``2y``.

Hours are exact. Days, weeks, months and years are those of the calendar: they lead to the same time of day
in the time zone, across changes of daylight saving; a day that a month lacks becomes its last one.
"""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

FORM = re.compile(r"([1-9][0-9]{0,3})([hdwmy])", re.ASCII)
DAYS = {"d": 1, "w": 7}
MONTHS = {"m": 1, "y": 12}
# Moments of the year 1 may lie before it in another time zone, where no datetime can be.
FIRST_YEAR = 2


@dataclass(frozen=True)
class Duration:
    """``unit`` is one of h, d, w, m and y."""

    number: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> Duration:
        """:raise ValueError: it is not a duration"""
        match = FORM.fullmatch(text)
        if not match:
            raise ValueError(
                f"{text!r} is not a duration: write a number from 1 to 9999 and h, d, w, m (months) "
                'or y, such as "14d"'
            )
        return cls(int(match[1]), match[2])

    def __str__(self) -> str:
        return f"{self.number}{self.unit}"

    def before(self, moment: datetime, zone: tzinfo) -> datetime:
        """The moment that lies this long before another; UTC."""
        if self.unit == "h":
            return moment.astimezone(UTC) - timedelta(hours=self.number)
        local = moment.astimezone(zone)
        if self.unit in DAYS:
            earlier = local - timedelta(days=self.number * DAYS[self.unit])
        else:
            earlier = _months_before(local, self.number * MONTHS[self.unit])
        # of an hour that comes twice the first is meant: it keeps more
        return earlier.replace(fold=0).astimezone(UTC)


def _months_before(local: datetime, months: int) -> datetime:
    year, month = divmod(local.year * 12 + local.month - 1 - months, 12)
    year, month = max(year, FIRST_YEAR), month + 1
    return local.replace(year=year, month=month, day=min(local.day, monthrange(year, month)[1]))
