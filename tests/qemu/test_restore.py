# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""restore: from a real receiver to files, over NBD with TLS."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import backups
import pytest
from machine import MIB, Machine
from modules import run, succeed
from receiving import ReceiverProcess


@dataclass
class Stage:
    """A committed point, its truth, and where to restore to."""

    vm: Machine
    receiver: ReceiverProcess
    points: list[str]
    truth: Path
    dest: Path

    def arguments(self, **options: Any) -> dict[str, Any]:
        common = {"point": self.points[-1], "vm": self.vm.name, "dest": str(self.dest)}
        return {**self.receiver.options("restore"), **common, **options}

    def restore(self, **options: Any) -> dict[str, Any]:
        return succeed("restore", **self.arguments(**options))

    def refuse(self, **options: Any) -> dict[str, Any]:
        result = run("restore", **self.arguments(**options))
        assert result.get("failed"), result
        return result

    def files(self) -> list[str]:
        return sorted(path.name for path in self.dest.iterdir())


@pytest.fixture
def stage(small_vm: Machine, receiver: ReceiverProcess, tmp_path: Path) -> Stage:
    backups.track(small_vm)
    points = []
    for pattern in (1, 2):
        small_vm.write("a", pattern=pattern, offset=pattern * MIB, count=2 * MIB)
        points.append(backups.back_up(small_vm, receiver)["point"])
    dest = tmp_path / "restored"
    dest.mkdir()
    return Stage(small_vm, receiver, points, small_vm.path("a"), dest)


def is_complete(image: Path) -> bool:
    described = subprocess.run(["qemu-img", "info", image], capture_output=True, text=True, check=True)
    return "backing file" not in described.stdout


@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_restored_files_hold_the_disks_and_stay_if_nothing_changed(stage: Stage, image_format: str) -> None:
    foreseen = stage.restore(format=image_format, check=True)
    assert foreseen["changed"]
    assert stage.files() == []
    done = stage.restore(format=image_format)
    path = stage.dest / f"vd-a.{image_format}"
    assert done["files"] == foreseen["files"]
    assert done["diff"] == foreseen["diff"]
    assert done["files"][0]["path"] == str(path)
    backups.assert_same(path, stage.truth)
    assert is_complete(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert stage.files() == [path.name, f"{path.name}.livebackup.json"]
    for check in (False, True):
        assert not stage.restore(format=image_format, check=check)["changed"]


def test_another_point_needs_force(stage: Stage) -> None:
    stage.restore(point=stage.points[0])
    before = (stage.dest / "vd-a.qcow2").read_bytes()
    refused = stage.refuse()
    assert refused["error"]["code"] == "file-exists"
    assert "set force to true to replace it" in refused["msg"]
    assert (stage.dest / "vd-a.qcow2").read_bytes() == before
    (stage.dest / "vd-a.qcow2").chmod(0o640)
    assert stage.restore(force=True)["changed"]
    backups.assert_same(stage.dest / "vd-a.qcow2", stage.truth)
    assert (stage.dest / "vd-a.qcow2").stat().st_mode & 0o777 == 0o640
    assert not stage.restore(force=True)["changed"]


def test_a_file_written_to_is_another_file(stage: Stage) -> None:
    stage.restore()
    subprocess.run(
        ["qemu-io", "-c", "write -P 9 0 64k", stage.dest / "vd-a.qcow2"], check=True, capture_output=True
    )
    assert stage.refuse()["error"]["code"] == "file-exists"
    stage.restore(force=True)
    backups.assert_same(stage.dest / "vd-a.qcow2", stage.truth)


def test_a_disk_in_use_is_never_replaced(stage: Stage) -> None:
    in_use = stage.vm.path("a")
    (stage.dest / "vd-a.qcow2").hardlink_to(in_use)
    for force in (False, True):
        refused = stage.refuse(force=force)
        assert refused["error"]["code"] == "file-in-use"
        assert "not even with force" in refused["msg"]
    assert (stage.dest / "vd-a.qcow2").samefile(in_use)
    assert stage.files() == ["vd-a.qcow2"]


def test_a_file_system_that_is_too_small(stage: Stage, tmp_path: Path) -> None:
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tiny], check=True)
    try:
        refused = stage.refuse(dest=str(tiny))
        assert refused["error"]["code"] == "space-short"
        assert refused["error"]["needed_bytes"] > refused["error"]["free_bytes"]
        assert list(tiny.iterdir()) == []
    finally:
        subprocess.run(["umount", tiny], check=True)


def test_what_does_not_exist(stage: Stage) -> None:
    assert "create it first" in stage.refuse(dest=str(stage.dest / "none"))["msg"]
    assert "holds no disk vd-x of VM" in stage.refuse(disks=["vd-x"])["msg"]
    assert stage.refuse(vm="mail")["error"]["code"] == "vm-unknown"
    assert stage.refuse(point="01JD50BR1C8Q2W3E4R5T6Y7V8A")["error"]["code"] == "point-unknown"


def test_no_export_is_left(stage: Stage) -> None:
    stage.restore()
    assert stage.receiver.daemons() == []
