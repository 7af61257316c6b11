# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sums over the catalog."""

from __future__ import annotations

from datetime import timedelta

from sample_records import NOW, point, session

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.figures import GroupFigures, count_by_group
from livebackup_receiver.catalog.marks import apply_mark
from livebackup_receiver.catalog.points import add_point
from livebackup_receiver.catalog.sessions import save_session
from livebackup_receiver.model import SessionState
from livebackup_receiver.store.marks import Mark


def test_groups_are_counted_apart(catalog: Catalog) -> None:
    with catalog.write() as db:
        add_point(db, point())
        add_point(db, point(NOW + timedelta(days=1)))
        gone = point(NOW - timedelta(days=1))
        add_point(db, gone)
        apply_mark(db, Mark(point=gone.id, dropped_at=NOW))
        save_session(db, session(SessionState.COMMITTED))
        save_session(db, session(SessionState.ABORTED, opened_at=NOW + timedelta(days=2), group="weekly"))
    with catalog.read() as db:
        nightly, weekly = count_by_group(db)
    assert nightly == GroupFigures("nightly", 1, 0, 2, 1, 3 << 20, 3 << 20)
    assert weekly == GroupFigures("weekly", 0, 1, 0, 0, 0, 0)
