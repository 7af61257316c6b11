# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

from livebackup_receiver.checks.result import CheckState
from livebackup_receiver.checks.store import judge_room
from livebackup_receiver.store.outlook import DiskRoom, by_home, outlook_of

GIB = 1 << 30
VOLUME = Path("/srv/backup")


def test_days_left_count_what_comes_back_and_what_must_stay() -> None:
    disks = [DiskRoom(30 * GIB, 4 * GIB, 14 * GIB), DiskRoom(10 * GIB, 0, 7 * GIB)]
    found = outlook_of(VOLUME, total=100 * GIB, free=12 * GIB, reserve=1 * GIB, disks=disks)
    assert (found.used_bytes, found.freeable_bytes) == (40 * GIB, 4 * GIB)
    assert found.growth_bytes_per_day == 3 * GIB
    assert found.days_left == 5.0


def test_without_growth_nobody_knows_how_long_it_will_do() -> None:
    assert outlook_of(VOLUME, total=GIB, free=GIB, reserve=0, disks=[]).days_left is None


def test_disks_count_for_the_volume_they_are_on() -> None:
    here, there = DiskRoom(1, 0, 0), DiskRoom(2, 0, 0)
    homes = {("db", "vd-a"): VOLUME, ("web", "vd-a"): Path("/other")}
    assert by_home({("db", "vd-a"): here, ("web", "vd-a"): there}, homes) == {
        VOLUME: [here],
        Path("/other"): [there],
    }


def test_three_days_before_it_is_full_the_check_warns() -> None:
    disks = [DiskRoom(30 * GIB, 0, 70 * GIB)]
    soon = outlook_of(VOLUME, total=100 * GIB, free=21 * GIB, reserve=GIB, disks=disks)
    check = judge_room(soon, GIB)
    assert check.state is CheckState.WARNING
    assert "10.0 GiB are stored a day, enough for 2 days" in check.message
    later = outlook_of(VOLUME, total=100 * GIB, free=51 * GIB, reserve=GIB, disks=disks)
    assert judge_room(later, GIB).state is CheckState.OK


def test_what_comes_back_by_itself_is_said() -> None:
    found = outlook_of(VOLUME, total=GIB, free=GIB, reserve=0, disks=[DiskRoom(GIB, GIB // 2, 0)])
    assert "up to 512.0 MiB of dropped points come back by themselves" in judge_room(found, 0).message
