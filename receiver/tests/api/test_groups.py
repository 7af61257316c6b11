# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups over the API."""

from __future__ import annotations

from sample_records import point, session
from serving import Served

from livebackup_receiver.catalog.points import add_point
from livebackup_receiver.catalog.sessions import save_session
from livebackup_receiver.model import Role, SessionState


async def test_a_group_tells_its_newest_point_and_session(server: Served) -> None:
    made, failed = point(), session(SessionState.ABORTED, reason="hv1 was silent")
    with server.receiver.catalog.write() as db:
        add_point(db, made)
        save_session(db, failed)
    async with server.client(Role.READ) as client:
        (group,) = (await client.get("/api/v1/groups")).json()["groups"]
    assert group == {
        "name": "nightly",
        "vms": ["db"],
        "last_point": {"id": made.id, "committed_at": "2026-03-01T03:00:00.000Z"},
        "last_session": {"id": failed.id, "state": "aborted", "reason": "hv1 was silent"},
    }


async def test_a_new_receiver_has_no_group(server: Served) -> None:
    async with server.client(Role.READ) as client:
        assert (await client.get("/api/v1/groups")).json() == {"groups": []}
