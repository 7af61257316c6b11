# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each section of the status page shows: loaded from the receiver, in the JSON form of the API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from pydantic import BaseModel

from livebackup_receiver.catalog import groups, points
from livebackup_receiver.catalog.vms import NewestOfVm, newest_of_each_vm
from livebackup_receiver.checks.backups import freshness
from livebackup_receiver.checks.result import Check, CheckState
from livebackup_receiver.errors import StoreFailed
from livebackup_receiver.model import Group, Point, Session, SessionState, rfc3339
from livebackup_receiver.rooms import outlooks
from livebackup_receiver.state import Receiver
from livebackup_receiver.web import verdict

Facts = dict[str, Any]

POINTS_SHOWN = 20
RUNS_SHOWN = 14
FAILURES_SHOWN = 5
SESSIONS_LOOKED_AT = 30
FAILURES_AGE = timedelta(days=7)


def plain(models: Sequence[BaseModel]) -> list[Facts]:
    """Models as the API would send them."""
    return [model.model_dump(mode="json") for model in models]


async def load_verdict(receiver: Receiver) -> Facts:
    found = await _groups(receiver)
    return {"verdict": verdict.judge(plain(found), plain(_checks_now(receiver, found)))}


async def load_running(receiver: Receiver) -> Facts:
    return {"running": plain(receiver.sessions.every())}


async def load_groups(receiver: Receiver) -> Facts:
    found = await _groups(receiver)
    return {"groups": [await _group_card(receiver, group) for group in found]}


async def load_failures(receiver: Receiver) -> Facts:
    since = datetime.now(UTC) - FAILURES_AGE
    ended = await receiver.sessions.list(ended=True, limit=SESSIONS_LOOKED_AT)
    failed = [session for session in ended if _failed(session) and session.opened_at >= since]
    return {"failures": plain(failed[:FAILURES_SHOWN])}


async def load_points(receiver: Receiver) -> Facts:
    found = await asyncio.to_thread(_list_points, receiver)
    return {"points": plain(found[:POINTS_SHOWN]), "points_left_off": len(found) > POINTS_SHOWN}


async def load_vms(receiver: Receiver) -> Facts:
    return {"vms": plain(await asyncio.to_thread(_list_vms, receiver))}


async def load_room(receiver: Receiver) -> Facts:
    look = partial(outlooks, receiver.config, receiver.catalog, now=datetime.now(UTC))
    try:
        return {"volumes": plain(await asyncio.to_thread(look)), "room_problem": None}
    except StoreFailed as error:
        return {"volumes": [], "room_problem": error.cause}


async def load_checks(receiver: Receiver) -> Facts:
    found = await _groups(receiver)
    ran_at = receiver.checks.ran_at
    return {"checks": plain(_checks_now(receiver, found)), "checked_at": rfc3339(ran_at) if ran_at else None}


SECTIONS: Mapping[str, Callable[[Receiver], Awaitable[Facts]]] = {
    "verdict": load_verdict,
    "running": load_running,
    "groups": load_groups,
    "failures": load_failures,
    "points": load_points,
    "vms": load_vms,
    "room": load_room,
    "checks": load_checks,
}
"""The sections from top to bottom; what a person needs first comes first."""


def _checks_now(receiver: Receiver, found: Sequence[Group]) -> list[Check]:
    """The newest results; the age of the groups' points, which changes with every commit, is judged anew."""
    now, limit = datetime.now(UTC), receiver.config.point_age_warning_s
    fresh = {check.name: check for check in (freshness(each, now=now, warning_s=limit) for each in found)}
    known = {check.name: check for check in receiver.checks.latest}
    return list((known | fresh).values())


async def _group_card(receiver: Receiver, group: Group) -> Facts:
    runs = await receiver.sessions.list(group=group.name, ended=True, limit=RUNS_SHOWN)
    age = freshness(group, now=datetime.now(UTC), warning_s=receiver.config.point_age_warning_s)
    return {
        **group.model_dump(mode="json"),
        **_health(group, age),
        "runs": plain(runs[::-1]),
    }


def _health(group: Group, age: Check) -> Facts:
    if group.last_session and group.last_session.state is SessionState.ABORTED:
        return {"health": CheckState.FAILED, "health_message": "The last session was aborted."}
    if group.last_point is None:
        return {"health": CheckState.WARNING, "health_message": age.message}
    return {"health": age.state, "health_message": None if age.state is CheckState.OK else age.message}


def _failed(session: Session) -> bool:
    return session.state is SessionState.ABORTED


async def _groups(receiver: Receiver) -> list[Group]:
    """The groups; what a session has become is known before the catalog has it."""
    recent = await receiver.sessions.list(limit=SESSIONS_LOOKED_AT)
    newest = {session.group: session for session in reversed(recent)}
    found = await asyncio.to_thread(_list_groups, receiver)
    return [_with_session(group, newest.get(group.name)) for group in found]


def _with_session(group: Group, session: Session | None) -> Group:
    if session is None:
        return group
    last = Group.LastSession(id=session.id, state=session.state, reason=session.reason)
    return group.model_copy(update={"last_session": last})


def _list_groups(receiver: Receiver) -> list[Group]:
    with receiver.catalog.read() as db:
        return groups.list_groups(db)


def _list_points(receiver: Receiver) -> list[Point]:
    with receiver.catalog.read() as db:
        return points.list_points(db, limit=POINTS_SHOWN + 1)


def _list_vms(receiver: Receiver) -> list[NewestOfVm]:
    with receiver.catalog.read() as db:
        return newest_of_each_vm(db)
