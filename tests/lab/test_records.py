# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of records accepts copies of one instant and refuses all others."""

from __future__ import annotations

import shutil
import struct
import zlib
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab import records
from lab.errors import ImageDamaged
from lab.records import CHECKSUM_OFFSET, DiskRecords, VmRecords
from lab.vm import Vm

# Guests boot under emulation, and the machine may be busy.
pytestmark = pytest.mark.timeout(400)


def record(number: int, owner: str = "db/a", acknowledged: int = 0) -> bytes:
    head = struct.pack("<8sQQ16sI", records.MAGIC, number, acknowledged, owner.encode(), 0)
    blank = head.ljust(records.RECORD_SIZE, b"\x5a")
    checksum = zlib.crc32(blank).to_bytes(4, "little")
    return blank[:CHECKSUM_OFFSET] + checksum + blank[CHECKSUM_OFFSET + 4 :]


def disk(prefix: int, acknowledged: int = 0, beyond: int = 0, torn: int = 0) -> DiskRecords:
    return DiskRecords(prefix, beyond, torn, acknowledged, clean=True)


def vm(a: int, b: int, acknowledged: int = 0) -> VmRecords:
    return VmRecords(disk(a, acknowledged), disk(b, acknowledged))


def test_an_intact_file_is_read_to_its_end() -> None:
    found = records.scan(record(1) + record(2, acknowledged=1), "db/a")
    assert (found.prefix, found.beyond, found.torn, found.acknowledged) == (2, 0, 0, 1)
    assert records.scan(b"", "db/a").prefix == 0


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (record(1) + bytes(1024) + record(3), (1, 1, 0)),
        (record(1) + record(2)[:500], (1, 0, 1)),
        (record(1) + record(2)[:-1] + b"!" + record(3), (1, 1, 1)),
        (record(1) + record(1), (1, 0, 1)),
        (record(1, owner="web/a"), (0, 0, 1)),
        (bytes(4096), (0, 0, 0)),
    ],
    ids=["missing", "cut short", "damaged", "out of place", "of another disk", "empty"],
)
def test_what_is_not_the_record_of_its_place_is_seen(content: bytes, expected: tuple[int, int, int]) -> None:
    found = records.scan(content, "db/a")
    assert (found.prefix, found.beyond, found.torn) == expected


@pytest.mark.parametrize(
    "chain",
    [
        {"db": vm(9, 9), "app": vm(9, 9), "web": vm(9, 9)},
        {"db": vm(10, 9, 8), "app": vm(9, 8, 7), "web": vm(8, 7)},
        {"db": vm(9, 9), "web": vm(20, 20)},
        {},
    ],
    ids=["all equal", "all in flight", "not neighbours", "nothing"],
)
def test_possible_instants_are_accepted(chain: dict[str, VmRecords]) -> None:
    assert records.violations(chain) == []


@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        ({"db": vm(9, 10)}, "db: disk a ends at record 9 and disk b at 10"),
        ({"db": vm(11, 9)}, "db: disk a ends at record 11 and disk b at 9"),
        ({"db": vm(9, 9), "app": vm(10, 9)}, "app has record 10, but db ends at 9"),
        ({"db": vm(10, 9), "app": vm(10, 9)}, "app has record 10, but db ends at 9"),
        ({"app": vm(20, 20, 15), "web": vm(15, 14)}, "app knows of record 15 of web, which ends at 14"),
        ({"db": VmRecords(disk(9, beyond=1), disk(9))}, "db: disk a lacks record 10 but has later ones"),
        ({"db": VmRecords(disk(9), disk(9, torn=2))}, "db: disk b has 2 damaged records"),
    ],
)
def test_impossible_instants_are_refused(chain: dict[str, VmRecords], reason: str) -> None:
    assert reason in records.violations(chain)


Copies = dict[str, dict[str, Path]]


def copy(guests: dict[str, Vm], disks: list[str], into: Path) -> None:
    """Copy disks (`db/a`) at one instant: all machines they belong to stand still meanwhile."""
    with ExitStack() as standing:
        for name in dict.fromkeys(disk.split("/")[0] for disk in disks):
            standing.enter_context(guests[name].paused())
        for name, letter in (disk.split("/") for disk in disks):
            shutil.copyfile(guests[name].disk_path(letter), into / f"{name}-{letter}.qcow2")


def check(names: list[str], into: Path) -> list[str]:
    images = {name: {letter: into / f"{name}-{letter}.qcow2" for letter in "ab"} for name in names}
    return records.violations({name: records.read(name, images[name]) for name in names})


ALL = ["db/a", "db/b", "app/a", "app/b", "web/a", "web/b"]


def test_copies_of_one_instant_are_accepted_again_and_again(guests: dict[str, Vm], tmp_path: Path) -> None:
    for number in range(1, 6):
        guests["web"].wait_for_record(guests["web"].newest().b + 3 * number)
        copy(guests, ALL, tmp_path)
        assert check(["db", "app", "web"], tmp_path) == []


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (["db/a"], ["db/b"]),
        (["db/b"], ["db/a"]),
        (["db/a", "db/b"], ["app/a", "app/b"]),
        (["app/a", "app/b"], ["db/a", "db/b"]),
        (["app/a", "app/b"], ["web/a", "web/b"]),
        (["web/a", "web/b"], ["app/a", "app/b"]),
    ],
    ids="+".join,
)
def test_copies_of_different_instants_are_refused(
    guests: dict[str, Vm], tmp_path: Path, first: list[str], later: list[str]
) -> None:
    guests["web"].wait_for_record(10)
    copy(guests, first, tmp_path)
    guests["web"].wait_for_record(guests["db"].newest().b + 5)
    copy(guests, later, tmp_path)
    names = list(dict.fromkeys(disk.split("/")[0] for disk in first + later))
    assert check(names, tmp_path) != []


def test_a_swapped_disk_is_refused(guests: dict[str, Vm], tmp_path: Path) -> None:
    guests["db"].wait_for_record(5)
    copy(guests, ["db/a", "db/b"], tmp_path)
    swapped = records.read("db", {"a": tmp_path / "db-b.qcow2", "b": tmp_path / "db-a.qcow2"})
    assert swapped.a.prefix == swapped.b.prefix == 0
    assert swapped.a.torn > 1


def test_a_frozen_disk_is_clean_and_a_running_one_is_not(guests: dict[str, Vm], tmp_path: Path) -> None:
    db = guests["db"]
    db.wait_for_record(5)
    copy(guests, ["db/a", "db/b"], tmp_path)
    assert not records.read_disk(tmp_path / "db-a.qcow2", "db/a").clean
    with db.frozen():
        copy(guests, ["db/a", "db/b"], tmp_path)
    assert records.read_disk(tmp_path / "db-a.qcow2", "db/a").clean


def test_what_is_no_image_of_a_lab_disk_is_told(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(bytes(1 << 20))
    with pytest.raises(ImageDamaged, match="noise cannot be read: its file system is inconsistent"):
        records.read_disk(tmp_path / "noise", "db/a")
    with pytest.raises(ImageDamaged, match="absent cannot be read"):
        records.read_disk(tmp_path / "absent", "db/a")
