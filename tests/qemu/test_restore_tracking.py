# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A VM that goes on from an older point: its backups do, too, and the chain becomes a tree."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import backups
import pytest
from conftest import MakeMachine
from machine import MIB, Image, Machine
from modules import succeed
from receiving import ReceiverProcess


@dataclass
class Line:
    """A VM with one disk, its points, and a copy of the disk at each."""

    vm: Machine
    receiver: ReceiverProcess
    truths: dict[str, Path] = field(default_factory=dict)

    @property
    def disk(self) -> Path:
        return self.vm.path("a")

    def back_up(self, pattern: int) -> dict[str, Any]:
        """Write something, back up, and return what the module said of the disk."""
        self.vm.write("a", pattern=pattern, offset=pattern * MIB, count=2 * MIB)
        result = backups.back_up(self.vm, self.receiver)
        truth = self.vm.directory / f"truth-{result['point']}.raw"
        subprocess.run(["qemu-img", "convert", "-U", "-O", "raw", self.disk, truth], check=True)
        self.truths[result["point"]] = truth
        disk: dict[str, Any] = result["vms"][0]["disks"][0]
        return disk

    @property
    def points(self) -> list[str]:
        """Oldest first."""
        return list(self.truths)

    def go_back(self, point: str, **options: Any) -> dict[str, Any]:
        """Restore the VM's own disk, without and with which it runs."""
        self.vm.stop()
        common = {"point": point, "vm": self.vm.name, "paths": {"vd-a": str(self.disk)}}
        done = succeed(
            "restore",
            **{**self.receiver.options("restore"), **common, "force": True, "delta": True, **options},
        )
        self.vm.start()
        file: dict[str, Any] = done["files"][0]
        return file

    def assert_every_point_is_true(self, dest: Path) -> None:
        for point, truth in self.truths.items():
            options = {"point": point, "vm": self.vm.name, "dest": str(dest), "format": "raw", "force": True}
            succeed("restore", **self.receiver.options("restore"), **options)
            backups.assert_same(dest / "vd-a.raw", truth)
            assert (dest / "vd-a.raw").stat().st_size == truth.stat().st_size


@pytest.fixture
def line(small_vm: Machine, receiver: ReceiverProcess) -> Line:
    backups.track(small_vm)
    found = Line(small_vm, receiver)
    for pattern in (1, 2, 4):
        found.back_up(pattern)
    return found


def test_the_next_backup_lies_on_the_point_that_was_restored(line: Line, tmp_path: Path) -> None:
    first, second, third = line.points
    file = line.go_back(first)
    assert file["tracking"] == "bitmap"
    # 2 MiB of the first write; all there was of the others is not even looked at
    assert (file["kept_bytes"], file["fetched_bytes"]) == (MIB, MIB)
    assert line.vm.checkpoints("a") == line.vm.ends("a") == [first]
    disk = line.back_up(8)
    assert (disk["level"], disk["parent"]) == ("incremental", first)
    assert disk["level_reason"] == f"changes since point {first}"
    assert disk["dirty_bytes"] == 2 * MIB + 65536
    fourth = line.points[-1]
    assert line.vm.checkpoints("a") == [fourth]
    parents = {
        point: line.receiver.call("GET", f"/points/{point}", role="read")["vms"][0]["disks"][0]["parent"]
        for point in line.points
    }
    assert parents == {first: None, second: first, third: second, fourth: first}
    # back to the head of the other branch, and both go on
    line.go_back(third)
    assert line.back_up(9)["parent"] == third
    line.go_back(fourth)
    assert line.back_up(10)["parent"] == fourth
    line.assert_every_point_is_true(tmp_path)


def test_a_run_that_was_killed_just_before_the_end_leaves_no_trace_in_the_bitmap(line: Line) -> None:
    """The complete file has bitmaps already, which must not record what the next run writes."""
    first = line.points[0]
    line.go_back(first)
    line.vm.stop()
    partial = line.disk.with_name(f".{line.disk.name}.livebackup-partial")
    line.disk.rename(partial)
    # one cluster is wrong again, and will be written with the bitmap in the image
    subprocess.run(["qemu-io", "-c", "write -P 9 1M 64k", partial], check=True, capture_output=True)
    file = line.go_back(first)
    assert (file["resumed_bytes"], file["fetched_bytes"]) == (2 * MIB - 65536, 65536)
    assert line.vm.checkpoints("a") == line.vm.ends("a") == [first]
    disk = line.back_up(8)
    assert (disk["parent"], disk["dirty_bytes"]) == (first, 2 * MIB + 65536)


def test_the_other_branch_may_have_grown(line: Line, tmp_path: Path) -> None:
    first = line.points[0]
    line.vm.command("block_resize", node_name="disk-a", size=48 * MIB)
    assert line.back_up(40)["level"] == "incremental"
    line.go_back(first)
    disk = line.back_up(5)
    assert (disk["level"], disk["parent"], disk["virtual_size"]) == ("incremental", first, 32 * MIB)
    line.assert_every_point_is_true(tmp_path)


def test_a_disk_that_is_made_smaller_after_it_was_restored_is_noticed(line: Line, tmp_path: Path) -> None:
    first = line.points[0]
    line.go_back(first)
    for size in (16 * MIB, 32 * MIB):
        line.vm.command("block_resize", node_name="disk-a", size=size)
    disk = line.back_up(3)
    assert disk["level"] != "incremental"
    assert f"the disk was made smaller since point {first}" in disk["level_reason"]
    line.assert_every_point_is_true(tmp_path)


def test_a_qemu_that_is_killed_after_a_restore_loses_only_the_bitmap(line: Line, tmp_path: Path) -> None:
    line.go_back(line.points[1])
    line.vm.write("a", pattern=6, offset=6 * MIB, count=MIB)
    line.vm.kill()
    line.vm.start()
    assert line.back_up(7)["level"] in ("resync", "full")
    line.assert_every_point_is_true(tmp_path)


def test_branches_outlive_the_point_they_lie_on(line: Line, tmp_path: Path) -> None:
    first = line.points[0]
    line.go_back(first)
    line.back_up(8)
    dropped = line.receiver.command("retention", "drop", first)
    assert dropped.returncode == 0, dropped.stderr
    del line.truths[first]
    line.assert_every_point_is_true(tmp_path)


def test_a_point_that_is_dropped_after_it_was_restored_is_no_parent(line: Line, tmp_path: Path) -> None:
    first = line.points[0]
    line.go_back(first)
    assert line.receiver.command("retention", "drop", first).returncode == 0
    del line.truths[first]
    disk = line.back_up(8)
    assert disk["parent"] != first
    assert f"point {first} no longer exists" in disk["level_reason"]
    line.assert_every_point_is_true(tmp_path)


def test_a_raw_disk_goes_on_without_a_bitmap(
    make_machine: MakeMachine, receiver: ReceiverProcess, tmp_path: Path
) -> None:
    vm = make_machine(images=(Image("a", format="raw"),), rounds=0)
    backups.track(vm, transient=True)
    line = Line(vm, receiver)
    for pattern in (1, 2):
        line.back_up(pattern)
    file = line.go_back(line.points[0], format="raw")
    assert file["tracking"] == "none"
    backups.track(vm, transient=True)
    assert line.back_up(3)["level"] in ("resync", "full")
    line.assert_every_point_is_true(tmp_path)
