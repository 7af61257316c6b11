# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sums over the catalog, for the metrics."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.orm import Session as Database

from livebackup_receiver.catalog.points import KEPT
from livebackup_receiver.catalog.schema import GroupRow, PointDiskRow, PointRow, SessionRow
from livebackup_receiver.model import SessionState
from livebackup_receiver.store.outlook import DiskRoom


@dataclass(frozen=True)
class GroupFigures:
    """Counts and sums of one group; sizes in bytes."""

    name: str
    committed: int
    aborted: int
    points: int
    dropped_points: int
    stored_bytes: int
    sent_bytes: int


def count_by_group(db: Database) -> list[GroupFigures]:
    """The figures of every group, by name."""
    return [_figures(db, name) for name in db.scalars(select(GroupRow.name).order_by(GroupRow.name))]


def _figures(db: Database, group: str) -> GroupFigures:
    sums = select(func.sum(PointDiskRow.stored_bytes), func.sum(PointDiskRow.sent_bytes))
    stored, sent = db.execute(
        sums.join(PointRow, PointRow.id == PointDiskRow.point_id).where(PointRow.group == group)
    ).one()
    return GroupFigures(
        name=group,
        committed=_count_sessions(db, group, SessionState.COMMITTED),
        aborted=_count_sessions(db, group, SessionState.ABORTED),
        points=_count_points(db, group, KEPT),
        dropped_points=_count_points(db, group, ~KEPT),
        stored_bytes=stored or 0,
        sent_bytes=sent or 0,
    )


def _count_points(db: Database, group: str, which: ColumnElement[bool]) -> int:
    query = select(func.count()).select_from(PointRow).where(PointRow.group == group, which)
    return db.scalar(query) or 0


def _count_sessions(db: Database, group: str, state: SessionState) -> int:
    query = (
        select(func.count())
        .select_from(SessionRow)
        .where(SessionRow.group == group, SessionRow.state == state)
    )
    return db.scalar(query) or 0


def room_of_disks(db: Database, *, since: datetime) -> dict[tuple[str, str], DiskRoom]:
    """What each disk takes; ``since`` is the beginning of the last week."""
    stored = func.coalesce(func.sum(PointDiskRow.stored_bytes), 0)
    dropped = func.sum(case((PointRow.dropped_at.is_not(None), PointDiskRow.stored_bytes), else_=0))
    new = func.sum(case((PointRow.committed_at >= since, PointDiskRow.stored_bytes), else_=0))
    query = (
        select(PointDiskRow.vm, PointDiskRow.disk, stored, dropped, new)
        .join(PointRow, PointRow.id == PointDiskRow.point_id)
        .group_by(PointDiskRow.vm, PointDiskRow.disk)
    )
    return {(vm, disk): DiskRoom(*sizes) for vm, disk, *sizes in db.execute(query)}
