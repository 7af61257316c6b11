# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A VM goes on with files that the receiver has restored: its next backup is incremental from that point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import backups
import pytest
from machine import MIB, Image, Machine
from receiving import ReceiverProcess

CLUSTER = 65536


def go_on_with(vm: Machine, restored: Path) -> None:
    """Start the VM again, with restored files in place of its own."""
    vm.kill()
    for image in vm.images:
        (restored / vm.name / f"vd-{image.name}.qcow2").replace(vm.path(image.name))
    vm.start()


def bitmaps_of(vm: Machine, image: str) -> dict[str, dict[str, Any]]:
    """What QEMU says of the bitmaps on an image."""
    (found,) = (
        node["dirty-bitmaps"]
        for node in vm.command("query-named-block-nodes", flat=True)
        if node["node-name"] == f"disk-{image}"
    )
    return {each["name"]: each for each in found}


@pytest.mark.parametrize("size", [32 * MIB, 8 * MIB + 3 * 512])
def test_the_backup_after_a_restore_is_incremental(
    make_machine: Any, receiver: ReceiverProcess, tmp_path: Path, size: int
) -> None:
    vm = make_machine(images=(Image("a", bytes=size), Image("b", bytes=size)), rounds=0)
    backups.track(vm)
    vm.write("a", pattern=1, count=4 * MIB)
    vm.write("b", pattern=2, offset=size - 512, count=512)
    point = backups.back_up_exactly(vm, receiver)["point"]
    vm.write("a", pattern=9, offset=MIB, count=MIB)
    restored = receiver.restore(point, vm.name, tmp_path / "out")
    assert restored.returncode == 0, restored.stderr
    go_on_with(vm, tmp_path / "out")

    found = bitmaps_of(vm, "a")[f"livebackup:{point}"]
    assert (found["recording"], found["persistent"], found["busy"]) == (True, True, False)
    assert not found.get("inconsistent")
    assert (found["count"], found["granularity"]) == (0, CLUSTER)

    vm.write("a", pattern=3, offset=2 * MIB, count=CLUSTER)
    after = backups.back_up_exactly(vm, receiver)
    disks = {each["disk"]: each for each in after["vms"][0]["disks"]}
    assert {each["level"] for each in disks.values()} == {"incremental"}
    assert disks["vd-a"]["level_reason"] == f"changes since point {point}"
    assert disks["vd-a"]["dirty_bytes"] <= 2 * CLUSTER
    assert disks["vd-b"]["dirty_bytes"] <= CLUSTER


def test_what_a_guest_wrote_after_the_point_is_put_back_by_a_delta(
    small_vm: Machine, receiver: ReceiverProcess, tmp_path: Path
) -> None:
    vm = small_vm
    backups.track(vm)
    vm.write("a", pattern=1, count=4 * MIB)
    point = backups.back_up_exactly(vm, receiver)["point"]
    truth = (vm.directory / "truth-a.qcow2").rename(tmp_path / "truth.qcow2")
    vm.write("a", pattern=9, offset=MIB, count=CLUSTER)
    target = tmp_path / "out" / vm.name / "vd-a.qcow2"
    target.parent.mkdir(parents=True)
    target.hardlink_to(vm.path("a"))

    to = ("restore", point, "--to", str(tmp_path / "out"), "--delta", "--json")
    in_use = receiver.command(*to)
    assert in_use.returncode == 6
    assert "is in use by a VM" in in_use.stderr
    vm.kill()
    done = receiver.command(*to)
    assert done.returncode == 0, done.stderr
    assert f'"moved_bytes": {CLUSTER},' in done.stdout
    backups.assert_same(target, truth)
    vm.path("a").unlink()
    target.rename(vm.path("a"))
    vm.start()
    after = backups.back_up_exactly(vm, receiver)
    assert backups.levels(after) == {"vd-a": "incremental"}
