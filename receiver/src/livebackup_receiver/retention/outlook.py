# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A forecast in the words of the API, and as people look at it: month by month; pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from livebackup_receiver.model import Model, Moment
from livebackup_receiver.retention.declared import ProposedPolicy
from livebackup_receiver.retention.forecast import Forecast, ForecastPoint, Step
from livebackup_receiver.retention.policy import ScopedPolicy


class ForecastAsked(Model):
    """What is to be foreseen.

    ``schedule`` as in "every 1h" or "daily at 02:00,14:00"; null: as often as the group was backed up lately.
    ``until`` null: a year from now. ``policies`` are tried in place of those that are declared.
    """

    schedule: str | None = None
    until: Moment | None = None
    policies: list[ProposedPolicy] = Field(default_factory=list)


class ForecastStep(Model):
    """How much there is from a moment on."""

    at: Moment
    count: int
    estimated_bytes: int


class ForeseenPoint(Model):
    """A point that exists, or is planned and has no id; ``dropped_at`` null: it is kept to the end."""

    id: str | None
    cut_at: Moment
    dropped_at: Moment | None


class UnmeasuredDisk(Model):
    """A disk without a single increment, which is taken not to change at all."""

    vm: str
    disk: str


class ForeseenPolicy(Model):
    """A policy that the forecast reckons with, and what it says in a line."""

    scope: str
    words: str


class RetentionForecast(Model):
    """What a schedule and policies come to.

    ``steps`` are oldest first: now, after each backup and its retention, and at the end. ``peak`` is the
    step with the most bytes, before its retention. ``points`` are all that exist at any time, newest first.
    """

    group: str
    schedule: str
    policies: list[ForeseenPolicy]
    steps: Annotated[list[ForecastStep], Field(min_length=1)]
    peak: ForecastStep
    points: list[ForeseenPoint]
    unknown_disks: list[UnmeasuredDisk]

    def on(self, moment: datetime) -> list[ForeseenPoint]:
        """The points there are at a moment, newest first.

        :raise ValueError: it is not within the forecast
        """
        forecast = Forecast(
            steps=tuple(Step(each.at, each.count, each.estimated_bytes) for each in self.steps),
            peak=Step(self.peak.at, self.peak.count, self.peak.estimated_bytes),
            points=tuple(ForecastPoint(each.id, each.cut_at, each.dropped_at) for each in self.points),
            unknown_disks=(),
        )
        return [_point(each) for each in forecast.on(moment).points]


def outlook(
    group: str, schedule: str, policies: Sequence[ScopedPolicy], forecast: Forecast
) -> RetentionForecast:
    """A forecast as it is answered."""
    return RetentionForecast(
        group=group,
        schedule=schedule,
        policies=[ForeseenPolicy(scope=str(each.scope), words=each.policy.describe()) for each in policies],
        steps=[_step(each) for each in forecast.steps],
        peak=_step(forecast.peak),
        points=[_point(each) for each in forecast.points],
        unknown_disks=[UnmeasuredDisk(vm=vm, disk=disk) for vm, disk in forecast.unknown_disks],
    )


def by_month(steps: Sequence[ForecastStep]) -> list[ForecastStep]:
    """The first step, and the last one of each month (UTC)."""
    last = {(each.at.astimezone(UTC).year, each.at.astimezone(UTC).month): each for each in steps}
    return [steps[0], *(each for each in last.values() if each is not steps[0])]


def _step(step: Step) -> ForecastStep:
    return ForecastStep(at=step.at, count=step.count, estimated_bytes=step.estimated_bytes)


def _point(point: ForecastPoint) -> ForeseenPoint:
    return ForeseenPoint(id=point.id, cut_at=point.cut_at, dropped_at=point.dropped_at)
