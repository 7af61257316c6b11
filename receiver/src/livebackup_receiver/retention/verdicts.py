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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import attrgetter

from livebackup_receiver.retention.facts import PointFacts, newest_first
from livebackup_receiver.retention.periods import Calendar
from livebackup_receiver.retention.policy import ScopedPolicy, ScopeKind, group_zone
from livebackup_receiver.retention.rules import Kept, cut_since, kept_by

__all__ = ["Judge", "PointFacts", "Verdict", "judge"]

ID = attrgetter("id")


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
        for each in self._kept(ordered, now.astimezone(UTC)):
            for place, point in enumerate(each.points):
                rules[point.id].append(each.words(place))
        return [Verdict(point, point.id in rules, tuple(rules.get(point.id, ()))) for point in ordered]

    def kept(self, points: Sequence[PointFacts], now: datetime) -> set[str]:
        """The ids of the points that are kept.

        :param points: of one group, newest first
        """
        found: set[str] = set()
        for each in self._kept(points, now.astimezone(UTC)):
            found.update(map(ID, each.points))
        return found

    def _kept(self, points: Sequence[PointFacts], now: datetime) -> Iterator[Kept]:
        future = cut_since(points, now + timedelta.resolution)
        past = points[future:]
        yield Kept(points[:future], lambda dummy: "cut in the future")
        if points:
            yield from _held(points, Calendar(group_zone(points[0].group, self._policies)), now)
        yield from _newest(past)
        for each in self._policies:
            yield from self._by_policy(each, _covered(each, past), now)
        yield Kept(self._ungoverned(points), lambda dummy: "no policy")

    def _by_policy(self, each: ScopedPolicy, points: Sequence[PointFacts], now: datetime) -> Iterator[Kept]:
        prefix = "" if each.scope.kind is ScopeKind.GROUP else f"{each.scope.label}: "
        for kept in kept_by(each.policy, points, self._calendars[each.policy.time_zone], now):
            yield Kept(kept.points, partial(_after, prefix, kept.words))

    def _ungoverned(self, points: Sequence[PointFacts]) -> Sequence[PointFacts]:
        """Those that no policy is for."""
        for each in self._policies:
            points = [] if _covers_all(each, points) else [one for one in points if not _covers(each, one)]
        return points


def _covered(each: ScopedPolicy, points: Sequence[PointFacts]) -> Sequence[PointFacts]:
    """Those of a group's points that a policy is for."""
    return points if _covers_all(each, points) else [point for point in points if _covers(each, point)]


def _covers(each: ScopedPolicy, point: PointFacts) -> bool:
    return each.scope.covers(point.group, point.disks)


def _covers_all(each: ScopedPolicy, points: Sequence[PointFacts]) -> bool:
    """Whether a policy is for the group itself; then the points need not be looked at one by one."""
    return each.scope.kind is ScopeKind.GROUP and bool(points) and _covers(each, points[0])


def _require_one_group(points: Sequence[PointFacts]) -> None:
    groups = sorted({point.group for point in points})
    if len(groups) > 1:
        raise ValueError(f"the points of one group are judged together, not those of {', '.join(groups)}")


def _held(points: Sequence[PointFacts], calendar: Calendar, now: datetime) -> Iterator[Kept]:
    """What people, locks or instant restores hold."""
    for point in (each for each in points if each.pin_reason is not None or each.locked_until is not None):
        if point.pin_reason is not None and (point.pin_until is None or point.pin_until > now):
            until = f" (until {calendar.day_or_minute(point.pin_until)})" if point.pin_until else ""
            yield _one(point, f"pinned: {point.pin_reason}{until}")
        if point.locked_until is not None and point.locked_until > now:
            yield _one(point, f"locked until {calendar.day_or_minute(point.locked_until)}")
    for point in (each for each in points if each.in_use):
        yield from (_one(point, words) for words in point.in_use)


def _newest(points: Sequence[PointFacts]) -> Iterator[Kept]:
    yield Kept(points[:1], lambda dummy: "newest point")
    complete = next((point for point in points if point.complete), None)
    if complete is not None:
        yield _one(complete, "newest complete point")


def _after(prefix: str, words: Callable[[int], str], place: int) -> str:
    return prefix + words(place)


def _one(point: PointFacts, words: str) -> Kept:
    return Kept((point,), lambda dummy: words)
