# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sums over the catalog, for the metrics."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session as Database

from livebackup_receiver.catalog.points import KEPT
from livebackup_receiver.catalog.schema import GroupRow, PointDiskRow, PointRow, SessionRow
from livebackup_receiver.model import SessionState


@dataclass(frozen=True)
class GroupFigures:
    """Counts and sums of one group; sizes in bytes."""

    name: str
    committed: int
    aborted: int
    points: int
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
        points=db.scalar(select(func.count()).select_from(PointRow).where(PointRow.group == group, KEPT))
        or 0,
        stored_bytes=stored or 0,
        sent_bytes=sent or 0,
    )


def _count_sessions(db: Database, group: str, state: SessionState) -> int:
    query = (
        select(func.count())
        .select_from(SessionRow)
        .where(SessionRow.group == group, SessionRow.state == state)
    )
    return db.scalar(query) or 0
