# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a schedule and policies come to: which points will exist on any date, and what they take; pure.

Retention runs after each backup, as it does in reality, and judges only what it has kept so far. Every
planned backup succeeds, is complete, and holds the disks of the group's newest complete point. How bytes
are estimated is said in ``sizes``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import takewhile

from livebackup_receiver.retention.facts import Disk, PointFacts, newest_first
from livebackup_receiver.retention.forecast import Forecast, ForecastPoint, Step
from livebackup_receiver.retention.policy import ScopedPolicy, group_zone
from livebackup_receiver.retention.schedule import Schedule
from livebackup_receiver.retention.sizes import NOTHING, Chain, History, estimate
from livebackup_receiver.retention.verdicts import Judge

# eleven years of hourly backups
MOST_RUNS = 100_000


def simulate(
    group: str,
    points: Sequence[PointFacts],
    *,
    history: History,
    schedule: Schedule,
    policies: Sequence[ScopedPolicy],
    now: datetime,
    until: datetime,
    breathe: Callable[[], None] = lambda: None,
) -> Forecast:
    """Play the schedule and the policies from now on.

    :param points: all of the group, in any order
    :param until: the end of the forecast, aware as ``now``
    :param breathe: called before each backup; a long simulation may wait there, or be ended by an exception
    :raise ValueError: the end is not after now, or too many backups lie before it
    """
    now, until = now.astimezone(UTC), until.astimezone(UTC)
    if until <= now:
        raise ValueError(f"the forecast must end after {now.isoformat()}, not at {until.isoformat()}")
    last = max((point.cut_at for point in points if point.cut_at <= now), default=now)
    runs = schedule.runs(last, after=now, zone=group_zone(group, policies))
    simulation = Simulation(group, points, history, policies)
    simulation.retain(now)
    for run in _limited(takewhile(lambda run: run <= until, runs)):
        breathe()
        simulation.back_up(run)
        simulation.retain(run)
    simulation.retain(until)  # without a backup, for what ends between the last one and the end
    return simulation.forecast()


def _limited(runs: Iterator[datetime]) -> Iterator[datetime]:
    for number, run in enumerate(runs, start=1):
        if number > MOST_RUNS:
            raise ValueError(f"more than {MOST_RUNS} backups lie before the end: ask for an earlier date")
        yield run


class Simulation:
    """A group in a future that is played backup by backup."""

    def __init__(
        self,
        group: str,
        points: Sequence[PointFacts],
        history: History,
        policies: Sequence[ScopedPolicy],
    ) -> None:
        self._group = group
        self._judge = Judge(policies)
        self._existing = {point.id for point in points}
        self._kept = newest_first(points)
        self._disks = _planned_disks(self._kept)
        self._chains = _chains(self._kept, history)
        self._dropped: list[tuple[PointFacts, datetime]] = []
        self._steps: list[Step] = []
        self._peak: Step | None = None

    def back_up(self, at: datetime) -> None:
        """Make a backup at a moment."""
        point = PointFacts(f"planned {at.isoformat()}", self._group, at, complete=True, disks=self._disks)
        newer = bisect_left(self._kept, True, key=lambda each: (each.cut_at, each.id) < (at, point.id))
        self._kept.insert(newer, point)
        for disk in self._disks:
            self._chains[disk].add_increment(point)

    def retain(self, now: datetime) -> None:
        """Let go what is no longer kept at a moment."""
        full = self._step(now)
        if self._peak is None or full.estimated_bytes > self._peak.estimated_bytes:
            self._peak = full
        kept = self._judge.kept(self._kept, now)
        if len(kept) < len(self._kept):
            for point in [each for each in self._kept if each.id not in kept]:
                self._drop(point, now)
            self._kept = [each for each in self._kept if each.id in kept]
        self._steps.append(self._step(now))

    def _drop(self, point: PointFacts, now: datetime) -> None:
        self._dropped.append((point, now))
        for disk in point.disks:
            self._chains[disk].drop(point)

    def _step(self, now: datetime) -> Step:
        return Step(now, len(self._kept), sum(chain.stored_bytes for chain in self._chains.values()))

    def forecast(self) -> Forecast:
        """What has been played."""
        assert self._peak is not None
        ends: dict[PointFacts, datetime | None] = dict(self._dropped)
        points = newest_first([*self._kept, *ends])
        unknown = [disk for disk in self._disks if self._chains[disk].estimate.rate is None]
        return Forecast(
            steps=tuple(self._steps),
            peak=self._peak,
            points=tuple(
                ForecastPoint(point.id if point.id in self._existing else None, point.cut_at, ends.get(point))
                for point in points
            ),
            unknown_disks=tuple(unknown),
        )


def _planned_disks(points: Sequence[PointFacts]) -> tuple[Disk, ...]:
    model = next((point for point in points if point.complete), points[0] if points else None)
    return model.disks if model else ()


def _chains(points: Sequence[PointFacts], history: History) -> dict[Disk, Chain]:
    """The chain of each disk that any of the points, newest first, holds."""
    holders: dict[Disk, list[PointFacts]] = {}
    for point in reversed(points):
        for disk in point.disks:
            holders.setdefault(disk, []).append(point)
    return {disk: _chain(disk, held, history) for disk, held in holders.items()}


def _chain(disk: Disk, points: Sequence[PointFacts], history: History) -> Chain:
    chain = Chain(estimate(disk, points, history))
    for point in points:
        chain.add(point, history.get(point.id, {}).get(disk, NOTHING))
    return chain
