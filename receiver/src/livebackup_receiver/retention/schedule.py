# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""When backups are made: ``every 1h``, ``every 30min``, ``daily at 02:00,14:00``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

SECONDS = {"min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
EVERY = re.compile(r"every ([1-9][0-9]{0,4}) ?(min|h|d|w)", re.ASCII)
DAILY = re.compile(rf"daily at ({TIME}(?:, ?{TIME})*)", re.ASCII)


@dataclass(frozen=True)
class Schedule:
    """Either an interval, whose days have 24 hours, or times of day in a time zone.

    A time of day that the clock skips in spring is as much later; of one that comes twice in autumn the
    first counts.

    :raise ValueError: it is neither, or both
    """

    interval_s: int | None = None
    times: tuple[time, ...] = ()

    def __post_init__(self) -> None:
        if (self.interval_s is None) == (not self.times):
            raise ValueError("a schedule is either an interval or times of day")
        if self.interval_s is not None and self.interval_s <= 0:
            raise ValueError("the interval of a schedule is at least a second")

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """:raise ValueError: it is not the text of a schedule"""
        if match := EVERY.fullmatch(text):
            return cls(interval_s=int(match[1]) * SECONDS[match[2]])
        if match := DAILY.fullmatch(text):
            return cls(
                times=tuple(sorted({time.fromisoformat(each.strip()) for each in match[1].split(",")}))
            )
        raise ValueError(
            f'{text!r} is not a schedule: write "every 1h", with min, h, d or w, or "daily at 02:00,14:00"'
        )

    def __str__(self) -> str:
        if self.interval_s is None:
            return f"daily at {','.join(each.isoformat('minutes') for each in self.times)}"
        unit = next((unit for unit in ("w", "d", "h", "min") if self.interval_s % SECONDS[unit] == 0), None)
        return f"every {self.interval_s // SECONDS[unit]}{unit}" if unit else f"every {self.interval_s} s"

    def runs(self, last: datetime, *, after: datetime, zone: tzinfo) -> Iterator[datetime]:
        """When it runs after a moment, without end; UTC.

        :param last: from when an interval is counted
        """
        if self.interval_s is None:
            return self._daily(after.astimezone(UTC), zone)
        return _every(timedelta(seconds=self.interval_s), last.astimezone(UTC), after.astimezone(UTC))

    def _daily(self, after: datetime, zone: tzinfo) -> Iterator[datetime]:
        day = after.astimezone(zone).date()
        while True:
            for run in sorted({_at(day, each, zone) for each in self.times}):
                if run > after:
                    # what the clock skips can fall together with what comes next
                    after = run
                    yield run
            day += timedelta(days=1)


def _at(day: date, time_of_day: time, zone: tzinfo) -> datetime:
    return datetime.combine(day, time_of_day, zone).astimezone(UTC)


def _every(interval: timedelta, last: datetime, after: datetime) -> Iterator[datetime]:
    run = last + (max(after - last, timedelta()) // interval + 1) * interval
    while True:
        yield run
        run += interval
