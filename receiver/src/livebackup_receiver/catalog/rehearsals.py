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
            whole=rehearsal.whole,
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


def newest_whole(db: Database, group: str) -> PointRehearsal | None:
    """The newest rehearsal of a group with all its VMs, of whichever point."""
    query = select(RehearsalRow).where(RehearsalRow.group == group, RehearsalRow.whole.is_(True))
    row = db.scalar(query.order_by(RehearsalRow.id.desc()).limit(1))
    return _of_point(row) if row else None


def rehearsed_groups(db: Database) -> list[str]:
    """Every group of which there are rehearsals."""
    return sorted(db.scalars(select(RehearsalRow.group).distinct()))


def find_rehearsal(db: Database, rehearsal: str) -> PointRehearsal | None:
    """One that is kept."""
    row = db.get(RehearsalRow, rehearsal)
    return _of_point(row) if row else None


def _of_point(row: RehearsalRow) -> PointRehearsal:
    outcome = Outcome(row.outcome)
    return PointRehearsal(
        id=row.id,
        whole=row.whole,
        outcome=outcome,
        reason=row.reason,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )
