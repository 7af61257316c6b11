# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What merging and removing layers changes in the catalog."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session as Database

from livebackup_receiver.catalog.schema import LayerCheckRow, PointDiskRow, PointRow, PointVmRow
from livebackup_receiver.consolidation.plan import LayerFacts


def layers_of_disks(
    db: Database, *, vm: str | None = None, disk: str | None = None
) -> dict[tuple[str, str], list[LayerFacts]]:
    """Every layer of every disk, or of one, oldest first."""
    query = select(
        PointDiskRow.vm,
        PointDiskRow.disk,
        PointDiskRow.point_id,
        PointDiskRow.parent,
        PointDiskRow.stored_bytes,
        PointRow.dropped_at,
    ).join(PointRow, PointRow.id == PointDiskRow.point_id)
    if vm is not None:
        query = query.where(PointDiskRow.vm == vm)
    if disk is not None:
        query = query.where(PointDiskRow.disk == disk)
    found: dict[tuple[str, str], list[LayerFacts]] = {}
    for row in db.execute(query.order_by(PointDiskRow.point_id)):
        facts = LayerFacts(row.point_id, row.parent, row.dropped_at is not None, row.stored_bytes)
        found.setdefault((row.vm, row.disk), []).append(facts)
    return found


def record_merge(
    db: Database, vm: str, disk: str, *, point: str, parent: str | None, stored_bytes: int
) -> None:
    """A layer has another parent and another size now; nothing is done for one that is not known."""
    row = db.get(PointDiskRow, (point, vm, disk))
    if row is not None:
        row.parent, row.stored_bytes = parent, stored_bytes


def record_size(db: Database, vm: str, disk: str, *, point: str, stored_bytes: int) -> None:
    """A layer takes another room."""
    row = db.get(PointDiskRow, (point, vm, disk))
    if row is not None:
        row.stored_bytes = stored_bytes


def forget_layers(db: Database, vm: str, disk: str, points: Sequence[str]) -> list[str]:
    """Layers are gone; the dropped points of which nothing is left then, which are forgotten, too."""
    for table in (PointDiskRow, LayerCheckRow):
        db.execute(delete(table).where(table.vm == vm, table.disk == disk, table.point_id.in_(points)))
    db.flush()
    left = exists().where(PointDiskRow.point_id == PointRow.id)
    query = select(PointRow.id).where(PointRow.id.in_(points), PointRow.dropped_at.is_not(None), ~left)
    gone = list(db.scalars(query))
    db.execute(delete(PointVmRow).where(PointVmRow.point_id.in_(gone)))
    db.execute(delete(PointRow).where(PointRow.id.in_(gone)))
    return gone
