# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tree of a VM's points is made of."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session as Database

from livebackup_receiver.catalog.points import require_vm
from livebackup_receiver.catalog.schema import PointDiskRow, PointRow
from livebackup_receiver.model import Level
from livebackup_receiver.tree import TreePoint, VmTree, tree_of


def load_tree(db: Database, vm: str) -> VmTree:
    """The points of each disk of a VM, those too whose layers only others need.

    :raise VmUnknown: no point has such a VM
    """
    require_vm(db, vm)
    query = (
        select(
            PointDiskRow.disk,
            PointDiskRow.point_id,
            PointDiskRow.parent,
            PointRow.group,
            PointRow.cut_at,
            PointDiskRow.level,
            PointRow.dropped_at,
        )
        .join(PointRow, PointRow.id == PointDiskRow.point_id)
        .where(PointDiskRow.vm == vm)
        .order_by(PointDiskRow.disk, PointDiskRow.point_id.desc())
    )
    disks = groupby(db.execute(query), key=lambda row: row.disk)
    return tree_of(vm, ((disk, [_point(row) for row in rows]) for disk, rows in disks))


def _point(row: Any) -> TreePoint:
    return TreePoint(
        point=row.point_id,
        parent=row.parent,
        group=row.group,
        cut_at=row.cut_at,
        level=Level(row.level),
        dropped=row.dropped_at is not None,
    )
