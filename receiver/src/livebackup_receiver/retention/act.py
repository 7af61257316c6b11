# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judging the points of the catalog, and dropping those that no rule keeps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.facts import load_facts, load_history
from livebackup_receiver.catalog.groups import require_group
from livebackup_receiver.catalog.points import load_point
from livebackup_receiver.catalog.policies import groups_in, load_policies
from livebackup_receiver.decisions import TURN, drop_points
from livebackup_receiver.errors import MinimumUndercut, RetentionInvalid
from livebackup_receiver.model import rfc3339
from livebackup_receiver.retention.declared import ProposedPolicy, in_force, propose
from livebackup_receiver.retention.facts import PointFacts, used
from livebackup_receiver.retention.minimum import undercut
from livebackup_receiver.retention.outlook import ForecastAsked, RetentionForecast, outlook
from livebackup_receiver.retention.plan import (
    RetentionApplied,
    RetentionPlan,
    RetentionPreview,
    is_for,
    plan_of,
    preview_of,
)
from livebackup_receiver.retention.policy import Scope
from livebackup_receiver.retention.rhythm import usual_schedule
from livebackup_receiver.retention.schedule import Schedule
from livebackup_receiver.retention.simulate import simulate
from livebackup_receiver.retention.verdicts import judge
from livebackup_receiver.store.leases import in_use, read_leases
from livebackup_receiver.store.paths import Store

log = logging.getLogger(__name__)

HORIZON = timedelta(days=365)


def plan_retention(catalog: Catalog, store: Store, group: str, *, now: datetime) -> RetentionPlan:
    """What would be dropped of a group now, and why the rest is kept.

    :raise GroupUnknown: it was never backed up
    """
    with catalog.read() as db:
        require_group(db, group)
        points, policies = load_facts(db, group), load_policies(db)
    return plan_of(group, used(points, in_use(read_leases(store), now)), policies, now)


def preview_retention(
    catalog: Catalog, store: Store, proposed: Sequence[ProposedPolicy], *, now: datetime
) -> RetentionPreview:
    """What policies that might be declared would drop now, of all groups that they are for."""
    leases = in_use(read_leases(store), now)
    with catalog.read() as db:
        policies = in_force(load_policies(db))
        scopes = [Scope.parse(each.scope) for each in proposed]
        groups = {group: used(load_facts(db, group), leases) for group in groups_in(db, scopes)}
    return preview_of(groups, policies, propose(policies, proposed), now)


def apply_retention(catalog: Catalog, store: Store, group: str, *, now: datetime) -> RetentionApplied:
    """Drop the points of a group that no rule keeps.

    :raise GroupUnknown: it was never backed up
    """
    # From the look at the points to their drop nobody pins one, takes a lease, or declares another policy.
    with TURN:
        with catalog.read() as db:
            require_group(db, group)
            points, policies = load_facts(db, group), load_policies(db)
        verdicts = judge(used(points, in_use(read_leases(store), now)), in_force(policies), now)
        going = [verdict.point for verdict in verdicts if not verdict.keep]
        drop_points(catalog, store, [point.id for point in going], now=now)
    for point in going:
        log.info("point %s of group %s, cut at %s: dropped, no rule keeps it", *_told(point))
    return RetentionApplied(group=group, dropped=[point.id for point in going], kept=len(points) - len(going))


def drop_point(catalog: Catalog, store: Store, point: str, *, now: datetime) -> None:
    """Drop one point by hand, whatever the rules say but for the minimum.

    :raise PointUnknown: it does not exist
    :raise PointKept: it is pinned, locked or in use
    :raise MinimumUndercut: a policy demands it as one of the last complete ones
    """
    with TURN:
        with catalog.read() as db:
            points = load_facts(db, load_point(db, point).group)
            policies = in_force(load_policies(db))
        if hurt := undercut(point, points, policies, now):
            raise MinimumUndercut(point, hurt.scope.label, hurt.policy.minimum)
        drop_points(catalog, store, [point], now=now)


def foresee_retention(
    catalog: Catalog,
    group: str,
    asked: ForecastAsked,
    *,
    now: datetime,
    breathe: Callable[[], None] = lambda: None,
) -> RetentionForecast:
    """What a group will hold on any date, and what it will take.

    :param breathe: called before each backup that is played; it may wait, or raise
    :raise GroupUnknown: it was never backed up
    :raise RetentionInvalid: schedule or date cannot be meant, or the group has too few points to tell one
    """
    with catalog.read() as db:
        require_group(db, group)
        points, history = load_facts(db, group), load_history(db, group)
        policies = propose(in_force(load_policies(db)), asked.policies)
    try:
        schedule = Schedule.parse(asked.schedule) if asked.schedule else _usual(group, points)
        forecast = simulate(
            group,
            points,
            history=history,
            schedule=schedule,
            policies=policies,
            now=now,
            until=asked.until or now + HORIZON,
            breathe=breathe,
        )
    except ValueError as error:
        raise invalid(error) from None
    concerned = [each for each in policies if is_for(each.scope, group, points)]
    return outlook(group, str(schedule), concerned, forecast)


def invalid(error: ValueError) -> RetentionInvalid:
    """What a rule says of a text that it does not understand, as an error of ours."""
    problem, dummy, hint = str(error).rpartition(": ")
    return RetentionInvalid(problem or hint, hint if problem else "correct it")


def _usual(group: str, points: Sequence[PointFacts]) -> Schedule:
    schedule = usual_schedule(points)
    if schedule is None:
        raise RetentionInvalid(
            f"group {group} has too few points to tell how often it is backed up",
            'say it, such as "every 1h" or "daily at 02:00"',
        )
    return schedule


def _told(point: PointFacts) -> tuple[str, str, str]:
    return point.id, point.group, rfc3339(point.cut_at)
