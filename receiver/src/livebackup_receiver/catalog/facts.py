# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What retention needs to know of points, read in few queries: a group may have 100,000 of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session as Database

from livebackup_receiver.catalog.points import KEPT
from livebackup_receiver.catalog.schema import PointDiskRow, PointRow
from livebackup_receiver.retention.facts import Disk, PointFacts
from livebackup_receiver.retention.sizes import NOTHING, History, Layer

COLUMNS = (
    PointRow.id,
    PointRow.cut_at,
    PointRow.complete,
    PointRow.pin_reason,
    PointRow.pin_until,
    PointRow.locked_until,
)


class StoredLayer(NamedTuple):
    """A layer that is in the store; that of a dropped point is there for those above it."""

    point: str
    vm: str
    disk: str
    stored_bytes: int
    full: bool
    dropped: bool


def load_facts(db: Database, group: str) -> list[PointFacts]:
    """Every point of a group that is kept, oldest first; none if there is no such group."""
    disks = _disks(db, group)
    rows = db.execute(select(*COLUMNS).where(PointRow.group == group, KEPT).order_by(PointRow.id))
    return [
        PointFacts(id, group, cut_at, complete, disks.get(id, ()), pin_reason, pin_until, locked_until)
        for id, cut_at, complete, pin_reason, pin_until, locked_until in rows
    ]


def load_history(db: Database, group: str) -> History:
    """What each point of a group stores of each of its disks."""
    query = (
        select(
            PointDiskRow.point_id,
            PointDiskRow.vm,
            PointDiskRow.disk,
            PointDiskRow.stored_bytes,
            PointDiskRow.parent.is_(None),
            PointRow.dropped_at.is_not(None),
        )
        .join(PointRow, PointRow.id == PointDiskRow.point_id)
        .where(PointRow.group == group)
        .order_by(PointDiskRow.point_id)
    )
    return history_of(StoredLayer(*row) for row in db.execute(query))


def history_of(layers: Iterable[StoredLayer]) -> History:
    """The layers of kept points, each with those of dropped points that it stands on; pure.

    :param layers: oldest first
    """
    history: dict[str, dict[Disk, Layer]] = {}
    below: dict[Disk, Layer] = {}
    for each in layers:
        disk = (each.vm, each.disk)
        under = below.pop(disk, NOTHING)
        if each.full:
            under = NOTHING
        layer = Layer(each.stored_bytes + under.stored_bytes, each.full or under.full)
        if each.dropped:
            below[disk] = layer
        else:
            history.setdefault(each.point, {})[disk] = layer
    return history


def _disks(db: Database, group: str) -> dict[str, tuple[Disk, ...]]:
    """The disks of each point; most points have the same, which are then one object."""
    found: dict[str, list[Disk]] = {}
    query = (
        select(PointDiskRow.point_id, PointDiskRow.vm, PointDiskRow.disk)
        .join(PointRow, PointRow.id == PointDiskRow.point_id)
        .where(PointRow.group == group, KEPT)
        .order_by(PointDiskRow.point_id, PointDiskRow.vm, PointDiskRow.disk)
    )
    for point, vm, disk in db.execute(query):
        found.setdefault(point, []).append((vm, disk))
    same: dict[tuple[Disk, ...], tuple[Disk, ...]] = {}
    return {point: same.setdefault(tuple(disks), tuple(disks)) for point, disks in found.items()}
