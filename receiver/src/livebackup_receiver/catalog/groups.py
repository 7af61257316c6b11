# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups in the catalog: they come into being with their first session."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session as Database

from livebackup_receiver.catalog.schema import GroupRow, PointRow, PointVmRow, SessionRow, TransferRow
from livebackup_receiver.errors import GroupUnknown
from livebackup_receiver.model import Group, SessionState


def ensure_group(db: Database, name: str, *, now: datetime) -> None:
    """Record the group if it is new."""
    if db.get(GroupRow, name) is None:
        db.add(GroupRow(name=name, created_at=now))
        db.flush()


def require_group(db: Database, name: str) -> None:
    """:raise GroupUnknown: no session of this group was ever opened"""
    if db.get(GroupRow, name) is None:
        raise GroupUnknown(name)


def list_groups(db: Database) -> list[Group]:
    """Every group by name, with the VMs of its newest session or point that had any."""
    return [_group(db, name) for name in db.scalars(select(GroupRow.name).order_by(GroupRow.name))]


def _group(db: Database, name: str) -> Group:
    kept = select(PointRow).where(PointRow.group == name, PointRow.dropped_at.is_(None))
    point = db.scalar(kept.order_by(PointRow.id.desc()).limit(1))
    session = db.scalar(
        select(SessionRow).where(SessionRow.group == name).order_by(SessionRow.id.desc()).limit(1)
    )
    return Group(
        name=name,
        vms=_vms(db, name),
        last_point=Group.LastPoint(id=point.id, committed_at=point.committed_at) if point else None,
        last_session=Group.LastSession(
            id=session.id, state=SessionState(session.state), reason=session.reason
        )
        if session
        else None,
    )


def _vms(db: Database, name: str) -> list[str]:
    planned = (
        select(SessionRow.id, TransferRow.vm)
        .join(TransferRow, TransferRow.session_id == SessionRow.id)
        .where(SessionRow.group == name)
    )
    kept = (
        select(PointRow.id, PointVmRow.vm)
        .join(PointVmRow, PointVmRow.point_id == PointRow.id)
        .where(PointRow.group == name)
    )
    found: dict[str, set[str]] = {}
    for session_id, vm in db.execute(planned.union(kept)):
        found.setdefault(session_id, set()).add(vm)
    return sorted(found[max(found)]) if found else []
