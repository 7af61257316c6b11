# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs in the catalog: each with its newest restore point."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session as Database

from livebackup_receiver.catalog.points import KEPT
from livebackup_receiver.catalog.schema import PointDiskRow, PointRow, PointVmRow
from livebackup_receiver.model import Consistency, Model, Moment


class NewestOfVm(Model):
    """What the newest point that holds a VM says of it."""

    vm: str
    group: str
    host: str
    point: str
    cut_at: Moment
    consistency: Consistency
    pause_ms: float | None
    disks: int


def newest_of_each_vm(db: Database) -> list[NewestOfVm]:
    """Every VM that has a point, by name."""
    newest = (
        select(PointVmRow.vm, func.max(PointVmRow.point_id).label("point"))
        .join(PointRow, PointRow.id == PointVmRow.point_id)
        .where(KEPT)
        .group_by(PointVmRow.vm)
        .subquery()
    )
    disks = (
        select(func.count())
        .where(PointDiskRow.point_id == PointVmRow.point_id, PointDiskRow.vm == PointVmRow.vm)
        .scalar_subquery()
    )
    rows = db.execute(
        select(PointVmRow, PointRow, disks)
        .join(newest, (PointVmRow.vm == newest.c.vm) & (PointVmRow.point_id == newest.c.point))
        .join(PointRow, PointRow.id == PointVmRow.point_id)
        .order_by(PointVmRow.vm)
    )
    return [_newest(vm, point, count) for vm, point, count in rows]


def _newest(vm: PointVmRow, point: PointRow, disks: int) -> NewestOfVm:
    return NewestOfVm(
        vm=vm.vm,
        group=point.group,
        host=vm.host,
        point=point.id,
        cut_at=point.cut_at,
        consistency=Consistency(vm.consistency),
        pause_ms=vm.pause_ms,
        disks=disks,
    )
