# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What reading layers back has shown, in the catalog; of each layer the newest result."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session as Database

from livebackup_receiver.catalog.schema import LayerCheckRow, PointDiskRow, PointRow
from livebackup_receiver.scrub.choice import Candidate
from livebackup_receiver.scrub.finding import LayerCheck, Result, of_merged

Key = tuple[str, str]


@dataclass(frozen=True)
class CheckFigures:
    """How many layers have which result, how many none, and when the oldest was found."""

    by_result: Mapping[str, int]
    never: int
    oldest: datetime | None


def record_check(db: Database, check: LayerCheck) -> None:
    """Keep what was found; nothing is done for a layer that is gone."""
    if db.get(PointDiskRow, (check.point, check.vm, check.disk)) is not None:
        db.merge(_row(check))


def list_checks(db: Database, *, vm: str | None = None, disk: str | None = None) -> list[LayerCheck]:
    """The newest result of every layer that was ever read, by VM, disk and point."""
    query = select(LayerCheckRow)
    if vm is not None:
        query = query.where(LayerCheckRow.vm == vm)
    if disk is not None:
        query = query.where(LayerCheckRow.disk == disk)
    ordered = query.order_by(LayerCheckRow.vm, LayerCheckRow.disk, LayerCheckRow.point_id)
    return [_check(row) for row in db.scalars(ordered)]


def bad_checks(db: Database, vms: Collection[str] | None = None) -> dict[Key, dict[str, LayerCheck]]:
    """The results that are not good, of some VMs or of all: for each disk by the point of the layer."""
    query = select(LayerCheckRow).where(LayerCheckRow.result != Result.GOOD)
    found: dict[Key, dict[str, LayerCheck]] = {}
    for row in db.scalars(query):
        if vms is None or row.vm in vms:
            found.setdefault((row.vm, row.disk), {})[row.point_id] = _check(row)
    return found


def count_checks(db: Database) -> CheckFigures:
    """The figures of all layers."""
    query = select(LayerCheckRow.result, func.count(), func.min(LayerCheckRow.checked_at))
    rows = list(db.execute(query.group_by(LayerCheckRow.result)))
    by_result = {row[0]: row[1] for row in rows}
    layers = db.scalar(select(func.count()).select_from(PointDiskRow)) or 0
    oldest = min((row[2] for row in rows if row[2]), default=None)
    return CheckFigures(by_result, max(0, layers - sum(by_result.values())), oldest)


def carry_checks(db: Database, vm: str, disk: str, points: Sequence[str]) -> None:
    """Layers were merged into the last one; what is known of them is known of that."""
    top = db.get(PointDiskRow, (points[-1], vm, disk))
    if top is None:
        return
    rows = [db.get(LayerCheckRow, (vm, disk, point)) for point in points]
    merged = of_merged([_check(row) if row else None for row in rows], virtual_size=top.virtual_size)
    if merged is not None:
        db.merge(_row(merged.model_copy(update={"point": points[-1]})))
    elif rows[-1] is not None:
        db.delete(rows[-1])


def candidates(db: Database) -> list[Candidate]:
    """Every layer that anybody needs, and when it was last read."""
    joined = (
        select(PointDiskRow, PointRow.committed_at, PointRow.dropped_at, LayerCheckRow)
        .join(PointRow, PointRow.id == PointDiskRow.point_id)
        .outerjoin(
            LayerCheckRow,
            (LayerCheckRow.vm == PointDiskRow.vm)
            & (LayerCheckRow.disk == PointDiskRow.disk)
            & (LayerCheckRow.point_id == PointDiskRow.point_id),
        )
    )
    rows = list(db.execute(joined.order_by(PointDiskRow.vm, PointDiskRow.disk, PointDiskRow.point_id)))
    parents = {(row[0].vm, row[0].disk, row[0].parent) for row in rows}
    return [
        Candidate(
            vm=layer.vm,
            disk=layer.disk,
            point=layer.point_id,
            stored_bytes=layer.stored_bytes,
            made_at=made_at,
            checked_at=check.checked_at if check else None,
            suspect=check is not None and check.checked_at is None,
            unread=check is not None and check.result == Result.UNREADABLE,
        )
        for layer, made_at, dropped_at, check in rows
        if dropped_at is None or (layer.vm, layer.disk, layer.point_id) in parents
    ]


def _row(check: LayerCheck) -> LayerCheckRow:
    return LayerCheckRow(
        vm=check.vm,
        disk=check.disk,
        point_id=check.point,
        checked_at=check.checked_at,
        result=check.result,
        problem=check.problem,
        ranges=[list(each) for each in check.ranges],
    )


def _check(row: LayerCheckRow) -> LayerCheck:
    return LayerCheck(
        vm=row.vm,
        disk=row.disk,
        point=row.point_id,
        checked_at=row.checked_at,
        result=Result(row.result),
        problem=row.problem,
        ranges=[tuple(each) for each in row.ranges],
    )
