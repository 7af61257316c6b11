# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebackup_receiver.errors import NameInvalid
from livebackup_receiver.store.paths import Store, check_name

POINT = "01JD7FZK3M4N5P6Q7R8S9T0V1W"
ROOT = Path("/srv/backup")
EVIL = ["", ".", "..", "../db", "a/b", "/etc", "-rf", ".hidden", "a b", "a\0b", "ä", "x" * 101, "a\n"]


def test_files_of_a_disk() -> None:
    disk = Store(ROOT).disk("db", "vd-a")
    assert disk.layer(POINT) == ROOT / f"vms/db/vd-a/{POINT}.qcow2"
    assert disk.manifest(POINT) == ROOT / f"vms/db/vd-a/{POINT}.json"
    assert disk.partial(POINT) == ROOT / f"vms/db/vd-a/{POINT}.partial"
    assert Store(ROOT).relative(disk.layer(POINT)) == f"vms/db/vd-a/{POINT}.qcow2"


@pytest.mark.parametrize("name", EVIL)
def test_names_that_could_leave_the_store_are_refused(name: str) -> None:
    with pytest.raises(NameInvalid):
        Store(ROOT).disk(name, "vd-a")
    with pytest.raises(NameInvalid):
        Store(ROOT).disk("db", name)


@pytest.mark.parametrize("point", ["../../etc/passwd", POINT.lower(), POINT[:-1], POINT + "0", ""])
def test_only_ids_name_layers(point: str) -> None:
    with pytest.raises(NameInvalid):
        Store(ROOT).disk("db", "vd-a").layer(point)


@given(st.text(max_size=120))
def test_whatever_passes_stays_one_directory_below(name: str) -> None:
    try:
        check_name("VM", name)
    except NameInvalid:
        return
    path = (ROOT / "vms" / name).resolve()
    assert path.parent == ROOT / "vms"
    assert path.name == name


@pytest.mark.parametrize("name", ["db", "db-01.example.org", "_x", "0", "vd-a", "VM_7"])
def test_ordinary_names_pass(name: str) -> None:
    assert check_name("VM", name) == name


def test_foreign_directories_are_no_disks(tmp_path: Path) -> None:
    for name in ("vms/db/vd-a", "vms/db/lost found", "vms/.snapshots/x", "other/db/vd-b"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "vms/db/notes.txt").write_text("a file")
    assert [(vm, disk) for vm, disk, dummy in Store(tmp_path).disks()] == [("db", "vd-a")]


def test_a_store_that_is_new_has_no_disks(tmp_path: Path) -> None:
    assert Store(tmp_path).disks() == []
