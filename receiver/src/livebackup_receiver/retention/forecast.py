# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What will exist on any date, as a simulation found it."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime

from livebackup_receiver.retention.facts import Disk


@dataclass(frozen=True)
class ForecastPoint:
    """A point that exists or is planned.

    :param id: None: it is planned
    :param dropped_at: when retention lets it go; None: it is still kept at the end
    """

    id: str | None
    cut_at: datetime
    dropped_at: datetime | None


@dataclass(frozen=True)
class Step:
    """How much there is from a moment on; bytes are an estimate."""

    at: datetime
    count: int
    estimated_bytes: int


@dataclass(frozen=True)
class Stock:
    """What there is at a moment: the points, newest first, and an estimate of their bytes."""

    at: datetime
    points: tuple[ForecastPoint, ...]
    estimated_bytes: int

    @property
    def count(self) -> int:
        return len(self.points)


@dataclass(frozen=True)
class Forecast:
    """What a schedule and policies come to.

    :param steps: oldest first: now, after each backup and its retention, and at the end
    :param peak: the step with the most bytes, counted after a backup and before its retention
    :param points: all that exist at any time, newest first
    :param unknown_disks: those without a single increment, taken to change not at all
    """

    steps: tuple[Step, ...]
    peak: Step
    points: tuple[ForecastPoint, ...]
    unknown_disks: tuple[Disk, ...]

    def on(self, moment: datetime) -> Stock:
        """What there is at an aware moment.

        :raise ValueError: it is not within the forecast
        """
        at = moment.astimezone(UTC)
        first, last = self.steps[0].at, self.steps[-1].at
        if not first <= at <= last:
            raise ValueError(
                f"the forecast is from {first.isoformat()} to {last.isoformat()}, not of {moment.isoformat()}"
            )
        step = self.steps[bisect_right(self.steps, at, key=lambda step: step.at) - 1]
        there = tuple(point for point in self.points if _exists(point, at))
        return Stock(at, there, step.estimated_bytes)


def _exists(point: ForecastPoint, at: datetime) -> bool:
    made = point.id is not None or point.cut_at <= at
    return made and (point.dropped_at is None or point.dropped_at > at)
