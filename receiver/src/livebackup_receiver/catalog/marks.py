# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pins, locks and drops in the catalog; the store has them first, see ``store.marks``."""

from __future__ import annotations

from sqlalchemy.orm import Session as Database

from livebackup_receiver.catalog.schema import PointRow
from livebackup_receiver.errors import PointUnknown
from livebackup_receiver.store.marks import Mark


def load_mark(db: Database, point: str) -> Mark:
    """What is decided about a point that is kept.

    :raise PointUnknown: the catalog does not have it, or it is dropped
    """
    row = db.get(PointRow, point)
    if row is None or row.dropped_at is not None:
        raise PointUnknown(point)
    return Mark(
        point=point, pin_reason=row.pin_reason, pin_until=row.pin_until, locked_until=row.locked_until
    )


def apply_mark(db: Database, mark: Mark) -> bool:
    """Bring a point to what its mark says; whether the catalog has the point."""
    row = db.get(PointRow, mark.point)
    if row is None:
        return False
    row.pin_reason, row.pin_until = mark.pin_reason, mark.pin_until
    row.locked_until, row.dropped_at = mark.locked_until, mark.dropped_at
    return True
