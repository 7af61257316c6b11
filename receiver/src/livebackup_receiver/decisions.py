# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions about points: pin, lock, drop. They are in the store first, and then in the catalog.

Dropping moves no data: the point is gone when this returns, and its space comes back by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.marks import apply_mark, load_mark
from livebackup_receiver.errors import LockShortened, PointKept
from livebackup_receiver.model import rfc3339
from livebackup_receiver.store.leases import in_use, read_leases
from livebackup_receiver.store.marks import Mark, read_marks, write_marks
from livebackup_receiver.store.paths import Store

# One decision after the other, whichever thread takes it: a pin must not come between the look at a point and
# its drop. Other processes are kept out by the lock of the store.
TURN = threading.RLock()
# Sessions write to the catalog, too, and do not wait for more than this many points.
POINTS_AT_ONCE = 500


def drop_points(catalog: Catalog, store: Store, points: Sequence[str], *, now: datetime) -> None:
    """Drop points, each on all its disks; all or, if one may not be dropped, none.

    :raise PointUnknown: one does not exist
    :raise PointKept: one is pinned, locked or in use
    """
    with TURN:
        with catalog.read() as db:
            marks = [load_mark(db, point) for point in points]
        leased = in_use(read_leases(store), now)
        for mark in marks:
            if why := obstacle(mark, now=now) or next(iter(leased.get(mark.point, ())), None):
                raise PointKept(mark.point, why)
        _decide(catalog, store, [mark.model_copy(update={"dropped_at": now}) for mark in marks])


def obstacle(mark: Mark, *, now: datetime) -> str | None:
    """Why a point may not be dropped, if so; pure."""
    if mark.locked_until and mark.locked_until > now:
        return f"locked until {rfc3339(mark.locked_until)}"
    if mark.pin_reason is not None and (mark.pin_until is None or mark.pin_until > now):
        return f"pinned ({mark.pin_reason})"
    return None


def pin_point(catalog: Catalog, store: Store, point: str, *, reason: str, until: datetime | None) -> None:
    """Keep a point whatever the policies say.

    :raise PointUnknown: it does not exist
    """
    _change(catalog, store, point, pin_reason=reason, pin_until=until)


def unpin_point(catalog: Catalog, store: Store, point: str) -> None:
    """Leave a point to the policies again.

    :raise PointUnknown: it does not exist
    """
    _change(catalog, store, point, pin_reason=None, pin_until=None)


def lock_point(catalog: Catalog, store: Store, point: str, *, until: datetime) -> None:
    """Let nobody drop a point before a date; that can be put off, but not be taken back.

    :raise PointUnknown: it does not exist
    :raise LockShortened: it is locked for longer already
    """
    with TURN:
        with catalog.read() as db:
            mark = load_mark(db, point)
        if mark.locked_until and until < mark.locked_until:
            raise LockShortened(point, rfc3339(mark.locked_until))
        _change(catalog, store, point, locked_until=until)


def recover_marks(catalog: Catalog, store: Store) -> None:
    """Bring to the catalog what the store alone knows: a kill came between the two, or it is a new catalog.

    :raise ManifestInvalid: a mark cannot be read; then nobody may decide what is dropped
    """
    marks = read_marks(store)
    with catalog.write() as db:
        for mark in marks:
            apply_mark(db, mark)


def _change(catalog: Catalog, store: Store, point: str, **facts: object) -> None:
    with TURN:
        with catalog.read() as db:
            mark = load_mark(db, point)
        _decide(catalog, store, [Mark.model_validate(mark.model_dump() | facts)])


def _decide(catalog: Catalog, store: Store, marks: Sequence[Mark]) -> None:
    for start in range(0, len(marks), POINTS_AT_ONCE):
        some = marks[start : start + POINTS_AT_ONCE]
        write_marks(store, some)
        with catalog.write() as db:
            for mark in some:
                apply_mark(db, mark)
