# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the backups: do sessions get on, and has each group a point that is young enough?"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from livebackup_receiver import ages
from livebackup_receiver.catalog import groups
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.checks.result import Check, Inspection, ok, warning
from livebackup_receiver.model import Group, Session, SessionState

# The coordinator ends a silent session by itself; these are for one that it has lost sight of.
STUCK_AFTER_S = {
    SessionState.JOINING: 3600.0,
    SessionState.TRANSFERRING: 24 * 3600.0,
    SessionState.SEALING: 24 * 3600.0,
}
QUICK_S = 600.0
# Groups of the collection's role rollback: a point each, of the state before, and none by schedule.
ROLLBACK_PREFIX = "rollback-"


async def check_sessions(inspection: Inspection) -> list[Check]:
    """Whether one is stuck."""
    found = inspection.open_sessions()
    stuck = [session for session in found if is_stuck(session, inspection.now)]
    if not stuck:
        return [ok("sessions", f"{len(found)} open, none is stuck")]
    names = ", ".join(f"session {each.id} of group {each.group} is {each.state}" for each in stuck)
    return [warning("sessions", f"for too long {names}; abort it, or restart the receiver, which aborts it")]


def is_stuck(session: Session, now: datetime) -> bool:
    """Whether a session has been in its state for longer than that can take; pure."""
    since = max([session.opened_at, *(step.at for step in session.transitions if step.subject == "session")])
    return (now - since).total_seconds() > STUCK_AFTER_S.get(session.state, QUICK_S)


async def check_freshness(inspection: Inspection) -> list[Check]:
    """One result for each group."""
    found = await asyncio.to_thread(_list_groups, inspection.catalog)
    limit = inspection.config.point_age_warning_s
    return [freshness(group, now=inspection.now, warning_s=limit) for group in found]


def freshness(group: Group, *, now: datetime, warning_s: float) -> Check:
    """A group, by the age of its newest point; pure."""
    name = f"freshness of {group.name}"
    if group.last_point is None:
        return _without_point(name, group)
    age = now - group.last_point.committed_at
    message = f"the newest point of group {group.name} is {ages.describe(age)} old"
    if age.total_seconds() <= warning_s:
        return ok(name, message)
    if group.name.startswith(ROLLBACK_PREFIX):
        return ok(name, f"{message}; it is the state before a rollback, and needs no other")
    allowed = ages.describe(timedelta(seconds=warning_s))
    return warning(name, f"{message}, more than {allowed}; run its backup")


def _without_point(name: str, group: Group) -> Check:
    none_yet = f"group {group.name} has no restore point yet"
    if group.last_session and not group.last_session.state.ended:
        return ok(name, f"{none_yet}; its first session is running")
    return warning(name, f"{none_yet}; run its backup and see why it fails")


def _list_groups(catalog: Catalog) -> list[Group]:
    with catalog.read() as db:
        return groups.list_groups(db)
