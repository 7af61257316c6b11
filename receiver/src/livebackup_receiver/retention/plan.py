# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts in the words of the API; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache

from livebackup_receiver.model import Model, Moment
from livebackup_receiver.retention.declared import DeclaredPolicy, in_force
from livebackup_receiver.retention.facts import Disk, PointFacts
from livebackup_receiver.retention.policy import Scope, ScopedPolicy
from livebackup_receiver.retention.verdicts import Verdict, judge


class PointVerdict(Model):
    """Whether a point is kept; ``rules`` are all that keep it, and empty if it goes."""

    point: str
    cut_at: Moment
    complete: bool
    vms: list[str]
    keep: bool
    rules: list[str]


class RetentionPlan(Model):
    """What applying retention would do to a group now.

    ``policies`` are those that are for any of its points, ``verdicts`` come newest point first.
    """

    group: str
    judged_at: Moment
    policies: list[DeclaredPolicy]
    verdicts: list[PointVerdict]


class RetentionApplied(Model):
    """What was done to a group: the points that are dropped, newest first, and how many are kept."""

    group: str
    dropped: list[str]
    kept: int


class GoingPoint(Model):
    """A point that no rule keeps."""

    group: str
    point: str
    cut_at: Moment
    vms: list[str]


class RetentionPreview(Model):
    """What would be dropped now: by the policies as they are, and as they are proposed."""

    before: list[GoingPoint]
    after: list[GoingPoint]


Groups = Mapping[str, Sequence[PointFacts]]


def plan_of(
    group: str, points: Sequence[PointFacts], policies: Sequence[DeclaredPolicy], now: datetime
) -> RetentionPlan:
    """The verdicts of a group's points."""
    return RetentionPlan(
        group=group,
        judged_at=now,
        policies=[each for each in policies if is_for(Scope.parse(each.scope), group, points)],
        verdicts=[_point_verdict(each) for each in judge(points, in_force(policies), now)],
    )


def preview_of(
    groups: Groups, policies: Sequence[ScopedPolicy], proposed: Sequence[ScopedPolicy], now: datetime
) -> RetentionPreview:
    """What two sets of policies would drop, group by group, newest point first."""
    return RetentionPreview(before=_going(groups, policies, now), after=_going(groups, proposed, now))


def is_for(scope: Scope, group: str, points: Sequence[PointFacts]) -> bool:
    """Whether a scope is for any point of a group."""
    if scope.covers(group, ()):
        return True
    # most points have the same disks, which are then looked at once
    return any(scope.covers(group, disks) for disks in {point.disks for point in points})


# Most points hold the same.
@lru_cache
def vms_of(disks: tuple[Disk, ...]) -> list[str]:
    """The names of the VMs that disks belong to; not to be changed."""
    return sorted({vm for vm, dummy in disks})


def _going(groups: Groups, policies: Sequence[ScopedPolicy], now: datetime) -> list[GoingPoint]:
    return [
        GoingPoint(group=group, point=each.point.id, cut_at=each.point.cut_at, vms=vms_of(each.point.disks))
        for group, points in groups.items()
        for each in judge(points, policies, now)
        if not each.keep
    ]


def _point_verdict(verdict: Verdict) -> PointVerdict:
    point = verdict.point
    return PointVerdict(
        point=point.id,
        cut_at=point.cut_at,
        complete=point.complete,
        vms=vms_of(point.disks),
        keep=verdict.keep,
        rules=list(verdict.rules),
    )
