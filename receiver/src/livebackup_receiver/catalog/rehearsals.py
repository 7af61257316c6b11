# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rehearsals in the catalog; the store has them first, see ``rehearsal.kept``."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session as Database

from livebackup_receiver.catalog.schema import RehearsalRow
from livebackup_receiver.model import Outcome, PointRehearsal

if TYPE_CHECKING:
    from livebackup_receiver.rehearsal.result import Rehearsal


def record_rehearsal(db: Database, rehearsal: Rehearsal) -> None:
    """Note a result that the store keeps."""
    db.merge(
        RehearsalRow(
            id=rehearsal.id,
            point_id=rehearsal.point,
            group=rehearsal.group,
            vms=rehearsal.vms,
            outcome=rehearsal.outcome,
            reason=rehearsal.reason,
            started_at=rehearsal.started_at,
            ended_at=rehearsal.ended_at,
        )
    )


def forget_rehearsals(db: Database, rehearsals: Collection[str]) -> None:
    """Take away what the store does not keep any more."""
    db.execute(delete(RehearsalRow).where(RehearsalRow.id.in_(rehearsals)))


def recorded(db: Database) -> set[str]:
    """The ids of all."""
    return set(db.scalars(select(RehearsalRow.id)))


def beyond(db: Database, group: str, kept: int) -> list[str]:
    """The rehearsals of a group that are older than the newest so many."""
    query = select(RehearsalRow.id).where(RehearsalRow.group == group).order_by(RehearsalRow.id.desc())
    return list(db.scalars(query.offset(kept)))


def newest_of_points(db: Database, points: Collection[str]) -> dict[str, PointRehearsal]:
    """The newest rehearsal of each of these points that has one."""
    newest = (
        select(func.max(RehearsalRow.id))
        .where(RehearsalRow.point_id.in_(points))
        .group_by(RehearsalRow.point_id)
    )
    rows = db.scalars(select(RehearsalRow).where(RehearsalRow.id.in_(newest)))
    return {row.point_id: _of_point(row) for row in rows}


def list_rehearsals(db: Database, group: str, limit: int = 1000) -> list[PointRehearsal]:
    """The rehearsals of a group, of whichever points, newest first."""
    query = select(RehearsalRow).where(RehearsalRow.group == group).order_by(RehearsalRow.id.desc())
    return [_of_point(row) for row in db.scalars(query.limit(limit))]


def _of_point(row: RehearsalRow) -> PointRehearsal:
    outcome = Outcome(row.outcome)
    return PointRehearsal(id=row.id, outcome=outcome, reason=row.reason, ended_at=row.ended_at)
