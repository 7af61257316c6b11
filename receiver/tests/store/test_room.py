# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
from sample_records import session, transfer

from livebackup_receiver.errors import StoreFull
from livebackup_receiver.model import Level, TransferState
from livebackup_receiver.store import room

STORE = Path("/srv/backup")


def test_an_incremental_needs_what_its_bitmap_counts() -> None:
    changed = transfer(level=Level.INCREMENTAL, dirty_bytes=4096)
    assert room.planned_bytes(changed, allocated_bytes=10**9) == 4096


def test_a_full_needs_what_the_participant_says_is_in_use() -> None:
    assert room.planned_bytes(transfer(level=Level.FULL), allocated_bytes=5000) == 5000
    assert room.planned_bytes(transfer(level=Level.FULL), allocated_bytes=None) == 0


def test_room_is_need_and_reserve() -> None:
    room.require_room(STORE, free=100, reserve=40, need=60)
    with pytest.raises(StoreFull, match="the store /srv/backup needs 101 bytes free and has 100"):
        room.require_room(STORE, free=100, reserve=40, need=61)


def test_running_sessions_still_need_what_they_have_not_sent() -> None:
    disks = [
        transfer("db", dirty_bytes=1000, sent_bytes=300, state=TransferState.TRANSFERRING),
        transfer("app", dirty_bytes=500, sent_bytes=600, state=TransferState.TRANSFERRING),
        transfer("web", dirty_bytes=7000, sent_bytes=0, state=TransferState.FAILED),
        transfer("old", level=Level.FULL, dirty_bytes=9000),
    ]
    assert room.outstanding_bytes([session(disks=disks)]) == 700


def test_free_bytes_are_those_of_the_file_system(tmp_path: Path) -> None:
    assert room.free_bytes(tmp_path) > 0
