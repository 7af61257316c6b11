# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which points of a group are kept, and by which rules; pure.

A point stays on all its disks or goes as one, so it is kept if any policy keeps it: that of its group, judged
over all points of the group, or one of a VM or disk, judged over the points that hold that. A point that no
policy is for is kept. So are the newest point of the group and its newest complete one, whatever is pinned
or locked, and what was cut in the future by a clock that was wrong: such points take nobody's place, or
they would drive out the backups made since the clock was set right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from livebackup_receiver.retention.facts import PointFacts, newest_first
from livebackup_receiver.retention.periods import Calendar
from livebackup_receiver.retention.policy import ScopedPolicy, ScopeKind, group_zone
from livebackup_receiver.retention.rules import Reason, reasons

__all__ = ["Judge", "PointFacts", "Verdict", "judge"]


@dataclass(frozen=True)
class Verdict:
    """Whether a point is kept, and every rule that keeps it, in words."""

    point: PointFacts
    keep: bool
    rules: tuple[str, ...]


def judge(points: Sequence[PointFacts], policies: Sequence[ScopedPolicy], now: datetime) -> list[Verdict]:
    """The verdicts of one group's points, newest first.

    :param points: all of the group, in any order
    :param policies: any; those of other groups, VMs and disks are for none of these points
    :raise ValueError: the points are of several groups
    """
    return Judge(policies).verdicts(points, now)


class Judge:
    """Judges again and again by the same policies; it remembers the periods of the points it has seen."""

    def __init__(self, policies: Sequence[ScopedPolicy]) -> None:
        self._policies = policies
        self._calendars = {each.policy.time_zone: Calendar(each.policy.zone) for each in policies}

    def verdicts(self, points: Sequence[PointFacts], now: datetime) -> list[Verdict]:
        """As ``judge``."""
        _require_one_group(points)
        rules: defaultdict[str, list[str]] = defaultdict(list)
        ordered = newest_first(points)
        for point, rule in self._reasons(ordered, now.astimezone(UTC)):
            rules[point.id].append(rule)
        return [Verdict(point, point.id in rules, tuple(rules.get(point.id, ()))) for point in ordered]

    def kept(self, points: Sequence[PointFacts], now: datetime) -> set[str]:
        """The ids of the points that are kept.

        :param points: of one group, newest first
        """
        return {point.id for point, dummy in self._reasons(points, now.astimezone(UTC))}

    def _reasons(self, points: Sequence[PointFacts], now: datetime) -> Iterator[Reason]:
        yield from ((point, "cut in the future") for point in points if point.cut_at > now)
        if points:
            yield from _held(points, Calendar(group_zone(points[0].group, self._policies)), now)
        yield from _newest([point for point in points if point.cut_at <= now])
        yield from self._by_policies(points, now)

    def _by_policies(self, points: Sequence[PointFacts], now: datetime) -> Iterator[Reason]:
        governed: set[str] = set()
        for each in self._policies:
            covered = [point for point in points if each.scope.covers(point.group, point.disks)]
            governed.update(point.id for point in covered)
            yield from self._by_policy(each, [point for point in covered if point.cut_at <= now], now)
        yield from ((point, "no policy") for point in points if point.id not in governed)

    def _by_policy(self, each: ScopedPolicy, points: Sequence[PointFacts], now: datetime) -> Iterator[Reason]:
        calendar = self._calendars[each.policy.time_zone]
        prefix = "" if each.scope.kind is ScopeKind.GROUP else f"{each.scope.label}: "
        for point, rule in reasons(each.policy, points, calendar, now):
            yield point, prefix + rule


def _require_one_group(points: Sequence[PointFacts]) -> None:
    groups = sorted({point.group for point in points})
    if len(groups) > 1:
        raise ValueError(f"the points of one group are judged together, not those of {', '.join(groups)}")


def _held(points: Sequence[PointFacts], calendar: Calendar, now: datetime) -> Iterator[Reason]:
    """What people or locks hold."""
    for point in points:
        if point.pin_reason is not None and (point.pin_until is None or point.pin_until > now):
            until = f" (until {calendar.day_or_minute(point.pin_until)})" if point.pin_until else ""
            yield point, f"pinned: {point.pin_reason}{until}"
        if point.locked_until is not None and point.locked_until > now:
            yield point, f"locked until {calendar.day_or_minute(point.locked_until)}"


def _newest(points: Sequence[PointFacts]) -> Iterator[Reason]:
    yield from ((point, "newest point") for point in points[:1])
    complete = next((point for point in points if point.complete), None)
    if complete is not None:
        yield complete, "newest complete point"
