# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builders of records with sensible values; a test names only what it is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from ulid import ULID

from livebackup_receiver.model import (
    Consistency,
    Group,
    Level,
    Participant,
    ParticipantState,
    Point,
    PointDisk,
    PointVm,
    Policy,
    Session,
    SessionState,
    Transfer,
    TransferState,
    Transition,
)

NOW = datetime(2026, 3, 1, 3, 0, 0, tzinfo=UTC)
STATES: list[SessionState] = [state for state in SessionState if state is not SessionState.ABORTED]


def new_id(moment: datetime = NOW) -> str:
    """An id of that moment."""
    return str(ULID.from_datetime(moment))


def transfer(vm: str = "db", disk: str = "vd-a", **facts: Any) -> Transfer:
    defaults: dict[str, Any] = {
        "host": "hv1",
        "level": Level.INCREMENTAL,
        "level_reason": "the bitmap of the head is healthy",
        "parent": None,
        "virtual_size": 8 << 20,
        "total_bytes": 1000,
        "pause_ms": 23.4,
        "consistency": Consistency.CRASH,
        "state": TransferState.TRANSFERRING,
    }
    return Transfer(vm=vm, disk=disk, **{**defaults, **facts})


def session(
    state: SessionState = SessionState.TRANSFERRING, *, opened_at: datetime = NOW, **facts: Any
) -> Session:
    """A session that has gone through every state up to this one, a second each."""
    defaults: dict[str, Any] = {
        "id": new_id(opened_at),
        "group": "nightly",
        "policy": Policy.ALL,
        "consistency": Consistency.CRASH,
        "hosts": ["hv1"],
        "participants": [Participant(host="hv1", state=ParticipantState.TRANSFERRING, heard_at=opened_at)],
        "disks": [transfer()],
        "transitions": _history(state, opened_at, facts.get("reason")),
    }
    ended_at = opened_at + timedelta(minutes=1) if state.ended else None
    return Session(state=state, opened_at=opened_at, ended_at=ended_at, **{**defaults, **facts})


def _history(state: SessionState, opened_at: datetime, reason: str | None) -> list[Transition]:
    aborted = state is SessionState.ABORTED
    passed = STATES[: STATES.index(SessionState.TRANSFERRING if aborted else state) + 1]
    states = [*passed, SessionState.ABORTED] if aborted else passed
    return [
        Transition(
            at=opened_at + timedelta(seconds=number),
            subject="session",
            from_=states[number - 1] if number else None,
            to=entered,
            reason=reason if entered is SessionState.ABORTED else None,
        )
        for number, entered in enumerate(states)
    ]


def point(moment: datetime = NOW, **facts: Any) -> Point:
    """A point of one VM with one disk; its layer exists in the records only."""
    point_id = facts.pop("id", new_id(moment))
    defaults: dict[str, Any] = {
        "group": "nightly",
        "complete": True,
        "consistency": Consistency.CRASH,
        "cut_at": moment,
        "committed_at": moment,
        "vms": [point_vm("db", point_id)],
    }
    return Point(id=point_id, **{**defaults, **facts})


def point_vm(vm: str, point_id: str, **facts: Any) -> PointVm:
    disk = PointDisk(
        disk="vd-a",
        virtual_size=8 << 20,
        level=Level.FULL,
        level_reason="the disk has no checkpoint bitmap",
        parent=None,
        layer=f"vms/{vm}/vd-a/{point_id}.qcow2",
        stored_bytes=1 << 20,
        dirty_bytes=None,
        sent_bytes=1 << 20,
        root="blake3:00",
    )
    defaults: dict[str, Any] = {
        "host": "hv1",
        "pause_ms": 23.4,
        "consistency": Consistency.CRASH,
        "disks": [disk],
    }
    return PointVm(vm=vm, **{**defaults, **facts})


def group(name: str = "nightly", *, point_at: datetime | None = NOW, **facts: Any) -> Group:
    last = Group.LastPoint(id=new_id(point_at), committed_at=point_at) if point_at else None
    defaults: dict[str, Any] = {"vms": ["db"], "last_point": last, "last_session": None}
    return Group(name=name, **{**defaults, **facts})
