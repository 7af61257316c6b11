# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Targets of a restore, and how a file is known again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils import _progress, _sidecar, _target
from ansible_collections.livebackup.qemu.plugins.module_utils._copy import Tally
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    DiskUnknown,
    OptionError,
    VmUnknown,
)

ORIGIN = _sidecar.origin(point="P", vm="db", disk="vd-a", image_format="raw", tracked=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "vd-a.raw"
    path.write_bytes(b"content")
    _sidecar.write(str(path), ORIGIN)
    return path


def test_a_restored_file_is_known_again(file: Path) -> None:
    assert _sidecar.still_holds(str(file), ORIGIN)


def test_another_point_is_another_content(file: Path) -> None:
    assert not _sidecar.still_holds(str(file), {**ORIGIN, "point": "Q"})


def test_a_write_is_noticed_even_if_the_size_stays(file: Path) -> None:
    file.write_bytes(b"CONTENT")
    os.utime(file, ns=(0, 1))
    assert not _sidecar.still_holds(str(file), ORIGIN)


@pytest.mark.parametrize("damage", ["", "{", "[]"])
def test_a_damaged_note_is_no_note(file: Path, damage: str) -> None:
    Path(f"{file}{_sidecar.SUFFIX}").write_text(damage)
    assert not _sidecar.still_holds(str(file), ORIGIN)


def test_a_note_of_the_file_to_come_says_nothing_of_the_one_that_is_there(file: Path, tmp_path: Path) -> None:
    complete = tmp_path / "complete"
    complete.write_bytes(b"newer content")
    newer = {**ORIGIN, "point": "Q"}
    _sidecar.write(str(file), newer, str(complete))
    assert not _sidecar.still_holds(str(file), newer)
    complete.rename(file)
    assert _sidecar.still_holds(str(file), newer)


@pytest.fixture
def vm(example: Any) -> dict[str, Any]:
    found: dict[str, Any] = example("point.response")["vms"][0]
    return found


def params(dest: Path | None, vm: dict[str, Any], **changes: Any) -> dict[str, Any]:
    common = {"point": "P", "vm": vm["vm"], "disks": None, "paths": None, "format": "qcow2", "track": True}
    return {**common, "dest": dest and str(dest), **changes}


def test_all_disks_of_the_point_get_a_file(tmp_path: Path, vm: dict[str, Any]) -> None:
    targets = _target.targets_of(params(tmp_path, vm), vm)
    assert [target.path for target in targets] == [f"{tmp_path}/{disk['disk']}.qcow2" for disk in vm["disks"]]
    assert not any(target.exists or target.current for target in targets)
    assert os.path.dirname(targets[0].partial) == str(tmp_path)
    assert {target.point_tracked for target in targets} == {"P"}


@pytest.mark.parametrize("changes", [{"track": False}, {"format": "raw"}])
def test_what_is_not_tracked(tmp_path: Path, vm: dict[str, Any], changes: dict[str, Any]) -> None:
    targets = _target.targets_of(params(tmp_path, vm, **changes), vm)
    assert {target.point_tracked for target in targets} == {None}


def test_what_the_point_does_not_hold(tmp_path: Path, vm: dict[str, Any]) -> None:
    with pytest.raises(DiskUnknown, match="holds no disk vd-x of VM"):
        _target.targets_of(params(tmp_path, vm, disks=["vd-x"]), vm)
    with pytest.raises(VmUnknown, match="holds no VM mail; it holds: db"):
        _target.vm_of({"id": "P", "vms": [{"vm": "db"}]}, "mail")
    with pytest.raises(OptionError, match="create it first"):
        _target.targets_of(params(tmp_path / "none", vm), vm)


def test_a_disk_named_twice_is_restored_once(tmp_path: Path, vm: dict[str, Any]) -> None:
    name = vm["disks"][0]["disk"]
    assert len(_target.targets_of(params(tmp_path, vm, disks=[name, name]), vm)) == 1


def test_two_disks_cannot_share_a_file(tmp_path: Path, vm: dict[str, Any]) -> None:
    twins = {**vm, "disks": [{**vm["disks"][0], "disk": name} for name in ("vd-a", "vd-b")]}
    paths = dict.fromkeys(("vd-a", "vd-b"), str(tmp_path / "one"))
    with pytest.raises(OptionError, match="The disks vd-a and vd-b would both be written to"):
        _target.targets_of(params(None, twins, paths=paths), twins)


def test_progress_in_words() -> None:
    tally = Tally(wanted_bytes=3 << 20, fetched_bytes=1 << 20, phase="fetching")
    assert _progress.words("db", "vd-a", tally) == "db/vd-a: fetching, 33 % of 3 MiB"
    assert _progress.words("db", "vd-a", Tally()) == "db/vd-a: waiting"
