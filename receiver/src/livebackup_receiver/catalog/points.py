# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore points in the catalog. A point that is here is committed; there is no other proof of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, insert, select
from sqlalchemy.orm import Session as Database

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.groups import ensure_group, require_group
from livebackup_receiver.catalog.rehearsals import newest_of_points
from livebackup_receiver.catalog.schema import PointDiskRow, PointRow, PointVmRow
from livebackup_receiver.errors import DiskUnknown, PointUnknown, VmUnknown
from livebackup_receiver.model import Consistency, Level, Point, PointDisk, PointVm

KEPT = PointRow.dropped_at.is_(None)
# SQLite takes so many parameters in any version.
VMS_AT_ONCE = 500


@dataclass(frozen=True)
class DiskPoint:
    """One disk at one committed point; ``layer`` is relative to the store."""

    point: str
    vm: str
    disk: str
    virtual_size: int
    parent: str | None
    layer: str
    dropped: bool = False


def add_point(db: Database, point: Point) -> None:
    """Record a committed point."""
    ensure_group(db, point.group, now=point.committed_at)
    facts = point.model_dump(exclude={"vms", "missing", "rehearsal"})
    db.add(PointRow(**facts, missing=point.missing))
    db.flush()
    vms = [{"point_id": point.id, **vm.model_dump(exclude={"disks"})} for vm in point.vms]
    disks = [
        {"point_id": point.id, "vm": vm.vm, **disk.model_dump()} for vm in point.vms for disk in vm.disks
    ]
    db.execute(insert(PointVmRow), vms)
    db.execute(insert(PointDiskRow), disks)


def has_point(db: Database, point_id: str) -> bool:
    """Whether a point is committed; a dropped one was, too."""
    return db.get(PointRow, point_id) is not None


def parents_kept(db: Database, point: Point) -> set[str]:
    """Those parents of a point's layers that are points themselves, and not dropped."""
    parents = {disk.parent for vm in point.vms for disk in vm.disks if disk.parent}
    return {row.id for each in parents if (row := db.get(PointRow, each)) and row.dropped_at is None}


def load_point(db: Database, point_id: str) -> Point:
    """:raise PointUnknown: the catalog does not have it"""
    row = db.get(PointRow, point_id)
    if row is None or row.dropped_at is not None:
        raise PointUnknown(point_id)
    return _rehearsed(db, [_point(row)])[0]


def require_point(catalog: Catalog, point_id: str) -> None:
    """See that a point was not dropped meanwhile.

    :raise PointUnknown: it was
    """
    with catalog.read() as db:
        load_point(db, point_id)


def list_points(
    db: Database, *, group: str | None = None, vm: str | None = None, limit: int = 100
) -> list[Point]:
    """Points, newest first; of one group or with one VM, if asked.

    :raise GroupUnknown: no such group
    :raise VmUnknown: no point has such a VM
    """
    query = select(PointRow).where(KEPT).order_by(PointRow.id.desc()).limit(limit)
    if group is not None:
        require_group(db, group)
        query = query.where(PointRow.group == group)
    if vm is not None:
        require_vm(db, vm)
        query = query.where(PointRow.vms.any(PointVmRow.vm == vm))
    return _rehearsed(db, [_point(row) for row in db.scalars(query)])


def require_vm(db: Database, vm: str) -> None:
    """:raise VmUnknown: no point has such a VM"""
    if db.scalar(_joined(select(PointVmRow.vm)).where(PointVmRow.vm == vm, KEPT).limit(1)) is None:
        raise VmUnknown(vm)


def group_members(db: Database, group: str) -> dict[str, str]:
    """The VMs in a group's newest point, and those missing in it, each with the host it was on last."""
    newest = db.scalar(select(PointRow).where(PointRow.group == group).order_by(PointRow.id.desc()).limit(1))
    if newest is None:
        return {}
    there = db.execute(select(PointVmRow.vm, PointVmRow.host).where(PointVmRow.point_id == newest.id))
    return {each.vm: each.host for each in newest.missing} | {row.vm: row.host for row in there}


def disk_points(db: Database, vm: str, disk: str) -> list[DiskPoint]:
    """Every committed point of a disk, newest first; the dropped ones too, whose layers are still there."""
    query = _disks().where(PointDiskRow.vm == vm, PointDiskRow.disk == disk)
    rows = db.execute(query.order_by(PointDiskRow.point_id.desc()))
    return [_disk_point(row, dropped_at) for row, dropped_at in rows]


def points_of_vms(db: Database, vms: Collection[str]) -> dict[tuple[str, str], list[DiskPoint]]:
    """Every committed point of each disk of these VMs, newest first, with the dropped ones."""
    found: dict[tuple[str, str], list[DiskPoint]] = {}
    names = sorted(vms)
    for start in range(0, len(names), VMS_AT_ONCE):
        some = PointDiskRow.vm.in_(names[start : start + VMS_AT_ONCE])
        for row, dropped_at in db.execute(_disks().where(some).order_by(PointDiskRow.point_id.desc())):
            found.setdefault((row.vm, row.disk), []).append(_disk_point(row, dropped_at))
    return found


def disk_chain(db: Database, *, point: str, vm: str, disk: str) -> list[DiskPoint]:
    """The layers that make up a disk at a point, from its own down to the full one.

    :raise DiskUnknown: the point, or one its chain needs, does not have the disk
    """
    known = {each.point: each for each in disk_points(db, vm, disk)}
    chain: list[DiskPoint] = []
    wanted: str | None = point
    while wanted is not None:
        if wanted not in known or known[wanted] in chain:
            raise DiskUnknown(vm, disk, f"point {wanted}")
        chain.append(known[wanted])
        wanted = known[wanted].parent
    return chain


def newest_point_id(db: Database) -> str | None:
    """The greatest id of any point."""
    return db.scalar(select(func.max(PointRow.id)))


def newest_complete_id(db: Database, group: str) -> str | None:
    """The newest complete point of a group that is kept.

    :raise GroupUnknown: no such group
    """
    require_group(db, group)
    kept = select(PointRow.id).where(PointRow.group == group, PointRow.complete.is_(True), KEPT)
    return db.scalar(kept.order_by(PointRow.id.desc()).limit(1))


def _rehearsed(db: Database, found: list[Point]) -> list[Point]:
    """Points with their newest rehearsals."""
    newest = newest_of_points(db, [each.id for each in found])
    return [each.model_copy(update={"rehearsal": newest.get(each.id)}) for each in found]


def _point(row: PointRow) -> Point:
    return Point(
        id=row.id,
        group=row.group,
        complete=row.complete,
        consistency=Consistency(row.consistency),
        cut_at=row.cut_at,
        committed_at=row.committed_at,
        vms=[_vm(vm) for vm in row.vms],
        missing=row.missing,
        pin_reason=row.pin_reason,
        pin_until=row.pin_until,
        locked_until=row.locked_until,
    )


def _vm(row: PointVmRow) -> PointVm:
    return PointVm(
        vm=row.vm,
        host=row.host,
        pause_ms=row.pause_ms,
        consistency=Consistency(row.consistency),
        disks=[_disk(disk) for disk in row.disks],
    )


def _disk(row: PointDiskRow) -> PointDisk:
    fields = {name: getattr(row, name) for name in PointDisk.model_fields if name != "level"}
    return PointDisk(level=Level(row.level), **fields)


def _joined(query: Select[Any]) -> Select[Any]:
    return query.join(PointRow, PointRow.id == PointVmRow.point_id)


def _disks() -> Select[Any]:
    columns: tuple[Any, ...] = (PointDiskRow, PointRow.dropped_at)
    return select(*columns).join(PointRow, PointRow.id == PointDiskRow.point_id)


def _disk_point(row: PointDiskRow, dropped_at: datetime | None) -> DiskPoint:
    return DiskPoint(
        point=row.point_id,
        vm=row.vm,
        disk=row.disk,
        virtual_size=row.virtual_size,
        parent=row.parent,
        layer=row.layer,
        dropped=dropped_at is not None,
    )
