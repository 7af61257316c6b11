# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import timedelta

import pytest
from sample_records import NOW, point, session, transfer

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.groups import list_groups, require_group
from livebackup_receiver.catalog.points import add_point
from livebackup_receiver.catalog.sessions import save_session
from livebackup_receiver.errors import GroupUnknown
from livebackup_receiver.model import Group, SessionState

LATER = NOW + timedelta(hours=1)


def test_a_group_tells_its_last_point_and_session(catalog: Catalog) -> None:
    good = point(NOW)
    bad = session(SessionState.ABORTED, opened_at=LATER, disks=[transfer("web")], reason="because")
    with catalog.write() as db:
        add_point(db, good)
        save_session(db, bad)
    with catalog.read() as db:
        assert list_groups(db) == [
            Group(
                name="nightly",
                vms=["web"],
                last_point=Group.LastPoint(id=good.id, committed_at=NOW),
                last_session=Group.LastSession(id=bad.id, state=SessionState.ABORTED, reason="because"),
            )
        ]


def test_a_group_whose_session_has_no_disks_yet_keeps_its_vms(catalog: Catalog) -> None:
    with catalog.write() as db:
        add_point(db, point(NOW))
        save_session(db, session(SessionState.JOINING, opened_at=LATER, disks=[]))
    with catalog.read() as db:
        assert list_groups(db)[0].vms == ["db"]


def test_a_group_exists_from_its_first_session_on(catalog: Catalog) -> None:
    with catalog.write() as db:
        with pytest.raises(GroupUnknown):
            require_group(db, "nightly")
        save_session(db, session(SessionState.JOINING, disks=[]))
        require_group(db, "nightly")
        assert list_groups(db)[0].vms == []
