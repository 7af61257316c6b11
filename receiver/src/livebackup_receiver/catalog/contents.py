# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the catalog says of the store, for comparing both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session as Database

from livebackup_receiver.catalog.policies import load_policies
from livebackup_receiver.catalog.schema import GroupRow, PointDiskRow, PointRow, SessionRow, TokenRow
from livebackup_receiver.catalog.sessions import list_sessions
from livebackup_receiver.retention.declared import DeclaredPolicy
from livebackup_receiver.store.inventory import Key
from livebackup_receiver.store.marks import Mark


@dataclass(frozen=True)
class LayerRecord:
    """A layer as the catalog knows it; sizes in bytes."""

    parent: str | None
    virtual_size: int
    root: str | None


@dataclass(frozen=True)
class Contents:
    """Points with their decisions, layers, and policies; ``open_sessions`` may have files of their own."""

    groups: Mapping[str, str]
    marks: Mapping[str, Mark]
    layers: Mapping[Key, LayerRecord]
    policies: tuple[DeclaredPolicy, ...]
    open_sessions: frozenset[str]


def load_contents(db: Database) -> Contents:
    """All of it; dropped points too, as long as layers of them are there."""
    rows = list(db.scalars(select(PointRow)))
    return Contents(
        groups={row.id: row.group for row in rows},
        marks={row.id: _mark(row) for row in rows},
        layers={
            (row.vm, row.disk, row.point_id): LayerRecord(row.parent, row.virtual_size, row.root)
            for row in db.scalars(select(PointDiskRow))
        },
        policies=tuple(load_policies(db)),
        open_sessions=frozenset(each.id for each in list_sessions(db, ended=False, limit=10_000)),
    )


def is_empty(db: Database) -> bool:
    """Whether nothing was ever written into the catalog."""
    tables = (GroupRow, SessionRow, PointRow, TokenRow)
    return not any(db.scalar(select(func.count()).select_from(table)) for table in tables)


def has_history(db: Database) -> bool:
    """Whether the catalog has heard of any session or point."""
    tables = (SessionRow, PointRow)
    return any(db.scalar(select(func.count()).select_from(table)) for table in tables)


def _mark(row: PointRow) -> Mark:
    return Mark(
        point=row.id,
        dropped_at=row.dropped_at,
        pin_reason=row.pin_reason,
        pin_until=row.pin_until,
        locked_until=row.locked_until,
    )
