# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of rehearsals: has each group that is to be rehearsed passed lately?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from livebackup_receiver import ages
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.recovery_plans import load_plans
from livebackup_receiver.catalog.rehearsals import newest_whole, rehearsed_groups
from livebackup_receiver.checks.result import Check, Inspection, failed, ok, warning
from livebackup_receiver.config import Config
from livebackup_receiver.model import Outcome, PointRehearsal
from livebackup_receiver.recovery.declared import DeclaredPlan
from livebackup_receiver.rehearsal.choice import due_at
from livebackup_receiver.rehearsal.means import needs_of, what_is_missing

# A rehearsal may have to wait for sessions, and takes its time.
GRACE = timedelta(hours=12)


@dataclass(frozen=True)
class Rehearsed:
    """A group with its newest rehearsal of all VMs, and when the next one is due."""

    group: str
    newest: PointRehearsal | None
    due: datetime | None


async def check_rehearsals(inspection: Inspection) -> list[Check]:
    """Whether they can run here, and one result for each group that was ever rehearsed, or is to be."""
    plans, found = await asyncio.to_thread(_look, inspection.catalog)
    means = await _check_means(plans, inspection.config)
    return [means, *(judge_rehearsal(each, inspection.now) for each in found)]


async def _check_means(plans: Sequence[DeclaredPlan], config: Config) -> Check:
    """Whether what is to be rehearsed could be; how much memory is free changes, and is not looked at."""
    for each in plans:
        needs = needs_of(each.plan, [member.vm for member in each.plan.members], config.rehearsal_files)
        missing = await what_is_missing(replace(needs, memory_mib=0))
        if missing is not None:
            return warning("rehearsals", f"group {each.group} cannot be rehearsed here: {missing}")
    if not plans:
        return ok("rehearsals", "no group is rehearsed; a recovery plan with a schedule has that done")
    named = ", ".join(each.group for each in plans)
    return ok("rehearsals", f"rehearsed by schedule, and can be: {named}")


def judge_rehearsal(rehearsed: Rehearsed, now: datetime) -> Check:
    """One group; pure."""
    name, group, newest = f"rehearsal of {rehearsed.group}", rehearsed.group, rehearsed.newest
    late = rehearsed.due is not None and now - rehearsed.due > GRACE
    if newest is None:
        if late:
            return warning(name, f"group {group} was never rehearsed, and was to be; see the receiver's log")
        return ok(name, f"group {group} was not rehearsed yet")
    ago = ages.describe(now - newest.ended_at)
    if newest.outcome is Outcome.FAILED:
        words = f"the rehearsal of group {group} failed {ago} ago ({newest.reason})"
        return failed(name, f"{words}; look at {newest.id} and rehearse again when that is mended")
    if newest.outcome is Outcome.COULD_NOT_RUN:
        return warning(name, f"the rehearsal of group {group} could not run {ago} ago: {newest.reason}")
    if late:
        return warning(name, f"group {group} passed {ago} ago, and was to be rehearsed since")
    return ok(name, f"group {group} passed {ago} ago")


def _look(catalog: Catalog) -> tuple[list[DeclaredPlan], list[Rehearsed]]:
    with catalog.read() as db:
        plans = {each.group: each for each in load_plans(db) if each.plan.schedule is not None}
        newest = {group: newest_whole(db, group) for group in {*plans, *rehearsed_groups(db)}}
    due = {group: due_at(each, _begun(newest[group])) for group, each in plans.items()}
    found = [
        Rehearsed(group, each, due.get(group))
        for group, each in sorted(newest.items())
        if each is not None or group in plans
    ]
    return list(plans.values()), found


def _begun(rehearsal: PointRehearsal | None) -> datetime | None:
    return rehearsal.started_at if rehearsal is not None else None
