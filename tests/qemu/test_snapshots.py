# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Snapshots of disks taken by others between and during backups."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import backups
import pytest
from machine import MIB, Machine, wait_for
from modules import run, succeed
from receiving import ReceiverProcess


def take_snapshot(vm: Machine, *, bitmaps: bool, over: str = "disk-a", name: str = "overlay") -> Path:
    """Put an overlay over a node of disk a; libvirt also makes an empty namesake of each recording bitmap."""
    overlay = vm.directory / f"{name}.qcow2"
    below = vm.path("a") if over == "disk-a" else vm.directory / f"{over}.qcow2"
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(below), "-F", "qcow2", str(overlay)]
    subprocess.run(command, check=True)
    file = {"driver": "file", "filename": str(overlay)}
    vm.command("blockdev-add", driver="qcow2", node_name=name, file=file, backing=None)
    actions = [{"type": "blockdev-snapshot", "data": {"node": over, "overlay": name}}]
    for bitmap in recording_bitmaps(vm, over) if bitmaps else []:
        data = {"node": name, "name": bitmap, "persistent": True}
        actions.append({"type": "block-dirty-bitmap-add", "data": data})
    vm.command("transaction", actions=actions)
    return overlay


def recording_bitmaps(vm: Machine, node: str) -> list[str]:
    nodes = {each["node-name"]: each for each in vm.command("query-named-block-nodes", flat=True)}
    return [bitmap["name"] for bitmap in nodes[node].get("dirty-bitmaps", []) if bitmap["recording"]]


def test_an_increment_across_a_snapshot_of_libvirt(small_vm: Machine, receiver: ReceiverProcess) -> None:
    vm = small_vm
    backups.track(vm)
    first = backups.back_up(vm, receiver)["point"]
    vm.write("a", pattern=1, offset=MIB, count=MIB)
    overlay = take_snapshot(vm, bitmaps=True)
    vm.write("a", pattern=2, offset=4 * MIB, count=MIB)
    result = backups.back_up(vm, receiver)
    (disk,) = result["vms"][0]["disks"]
    # what was written before the snapshot is recorded below it; the last bytes of the disk always go along
    assert (disk["level"], disk["parent"], disk["dirty_bytes"]) == ("incremental", first, 2 * MIB + 65536)
    backups.assert_same(receiver.layer(vm.name, "vd-a", result["point"]), overlay)
    assert vm.leftovers() == []
    vm.write("a", pattern=3, offset=8 * MIB, count=MIB)
    again = backups.back_up(vm, receiver)
    assert again["vms"][0]["disks"][0]["dirty_bytes"] == MIB + 65536
    backups.assert_same(receiver.layer(vm.name, "vd-a", again["point"]), overlay)


def test_a_resync_after_a_plain_snapshot(small_vm: Machine, receiver: ReceiverProcess) -> None:
    vm = small_vm
    backups.track(vm)
    backups.back_up(vm, receiver)
    overlay = take_snapshot(vm, bitmaps=False)
    vm.write("a", pattern=2, count=MIB)
    result = backups.back_up(vm, receiver)
    assert backups.levels(result) == {"vd-a": "resync"}
    backups.assert_same(receiver.layer(vm.name, "vd-a", result["point"]), overlay)
    vm.write("a", pattern=3, count=MIB)
    assert backups.levels(backups.back_up(vm, receiver)) == {"vd-a": "incremental"}


def test_tracking_follows_a_snapshot(small_vm: Machine) -> None:
    vm = small_vm
    backups.track(vm)
    take_snapshot(vm, bitmaps=False)
    (disk,) = [
        disk for disk in succeed("vm_info", qmp_sockets=[vm.qmp])["vms"][0]["disks"] if disk["disk"] == "vd-a"
    ]
    assert (disk["node"], disk["tracked"], disk["backing_nodes"]) == ("overlay", True, ["disk-a"])
    assert backups.track(vm)["changed"]
    assert not backups.track(vm)["changed"]
    refused = run("tracking", qmp_sockets=[vm.qmp], state="absent")
    assert "on its read-only backing node disk-a; commit the snapshot" in refused["msg"]


def test_a_snapshot_during_the_transfer(vm: Machine, receiver: ReceiverProcess) -> None:
    backups.track(vm)
    vm.write("b", pattern=5, count=8 * MIB)
    session = receiver.open()
    participant = backups.start(vm, receiver, session, speed=2 * MIB)
    receiver.wait_participant(session, "transferring")
    take_snapshot(vm, bitmaps=False)
    assert not participant.result().get("failed")
    assert vm.devices()["vd-a"] == "overlay"
    assert vm.leftovers() == []
    vm.wait_writes()
    assert vm.write_errors() == 0


def only_disk(result: dict[str, Any]) -> dict[str, Any]:
    (disk,) = result["vms"][0]["disks"]
    found: dict[str, Any] = disk
    return found


def commit(vm: Machine, *, top: str = "overlay", base: str = "disk-a") -> None:
    """Merge a snapshot into what is below it."""
    vm.command("block-commit", job_id="others", device="overlay", top_node=top, base_node=base)

    def concluded() -> bool:
        for job in vm.command("query-jobs"):
            if job["status"] == "ready":
                vm.command("job-complete", id=job["id"])
        return not vm.command("query-jobs")

    wait_for(concluded, "the snapshot to be merged")


def test_the_reason_of_the_level_names_the_snapshot(small_vm: Machine, receiver: ReceiverProcess) -> None:
    vm = small_vm
    backups.track(vm)
    point = backups.back_up(vm, receiver)["point"]
    take_snapshot(vm, bitmaps=False)
    disk = only_disk(backups.back_up(vm, receiver))
    reason = f"an external snapshot was taken or merged since point {point}, so its bitmap is incomplete"
    assert (disk["level"], disk["level_reason"].startswith(reason)) == ("resync", True)
    # should the backing file be merged away, the disk is still tracked
    assert "livebackup:tracked" in vm.bitmaps()["overlay"]


@pytest.mark.parametrize("bitmaps", [False, True])
@pytest.mark.parametrize("between", [0, 1, 2])
def test_after_a_snapshot_was_merged(
    small_vm: Machine, receiver: ReceiverProcess, bitmaps: bool, between: int
) -> None:
    vm = small_vm
    backups.track(vm)
    first = backups.back_up(vm, receiver)["point"]
    vm.write("a", pattern=1, offset=MIB, count=MIB)
    take_snapshot(vm, bitmaps=bitmaps)
    for number in range(between):
        vm.write("a", pattern=2, offset=(3 + number) * MIB, count=MIB)
        backups.back_up(vm, receiver)
    vm.write("a", pattern=3, offset=6 * MIB, count=MIB)
    commit(vm)
    assert vm.devices()["vd-a"] == "disk-a"
    vm.write("a", pattern=4, offset=8 * MIB, count=MIB)
    # the first point's bitmap has come back, and QEMU has recorded in it what was merged
    disk = only_disk(backups.back_up_exactly(vm, receiver))
    assert (disk["level"], disk["parent"]) == ("incremental", first)
    vm.write("a", pattern=5, offset=9 * MIB, count=MIB)
    assert only_disk(backups.back_up_exactly(vm, receiver))["dirty_bytes"] == MIB + 65536


def test_after_a_snapshot_was_merged_while_the_vm_was_stopped(
    small_vm: Machine, receiver: ReceiverProcess
) -> None:
    vm = small_vm
    backups.track(vm)
    first = backups.back_up(vm, receiver)["point"]
    vm.write("a", pattern=1, offset=MIB, count=MIB)
    overlay = take_snapshot(vm, bitmaps=False)
    vm.write("a", pattern=2, offset=3 * MIB, count=MIB)
    backups.back_up(vm, receiver)
    vm.write("a", pattern=3, offset=5 * MIB, count=MIB)
    vm.stop()
    subprocess.run(["qemu-img", "commit", "-q", str(overlay)], check=True)
    vm.start()
    disk = only_disk(backups.back_up_exactly(vm, receiver))
    assert (disk["level"], disk["parent"]) == ("incremental", first)


def test_after_a_snapshot_was_thrown_away(small_vm: Machine, receiver: ReceiverProcess) -> None:
    vm = small_vm
    backups.track(vm)
    first = backups.back_up(vm, receiver)["point"]
    vm.write("a", pattern=1, offset=MIB, count=MIB)
    take_snapshot(vm, bitmaps=False)
    vm.write("a", pattern=2, offset=3 * MIB, count=MIB)
    backups.back_up(vm, receiver)
    vm.stop()
    vm.start()
    disk = only_disk(backups.back_up_exactly(vm, receiver))
    assert (disk["level"], disk["parent"]) == ("incremental", first)


def test_a_snapshot_whose_lower_part_was_merged_away(small_vm: Machine, receiver: ReceiverProcess) -> None:
    """The topmost namesake alone would tell only a part, and look sound."""
    vm = small_vm
    backups.track(vm)
    take_snapshot(vm, bitmaps=False)
    backups.back_up(vm, receiver)
    vm.write("a", pattern=1, offset=MIB, count=MIB)
    top = take_snapshot(vm, bitmaps=True, over="overlay", name="top")
    vm.write("a", pattern=2, offset=3 * MIB, count=MIB)
    vm.command("block-commit", job_id="others", device="top", top_node="overlay", base_node="disk-a")
    wait_for(lambda: not vm.command("query-jobs"), "the snapshot to be merged")
    disk = only_disk(backups.back_up(vm, receiver))
    assert disk["level"] == "resync"
    assert "an external snapshot was taken or merged" in disk["level_reason"]
    vm.write("a", pattern=3, offset=5 * MIB, count=MIB)
    again = backups.back_up(vm, receiver)
    assert only_disk(again)["level"] == "incremental"
    backups.assert_same(receiver.layer(vm.name, "vd-a", again["point"]), top)


def test_a_backing_file_streamed_into_the_snapshot(small_vm: Machine, receiver: ReceiverProcess) -> None:
    vm = small_vm
    backups.track(vm)
    backups.back_up(vm, receiver)
    vm.write("a", pattern=1, offset=MIB, count=MIB)
    overlay = take_snapshot(vm, bitmaps=True)
    vm.write("a", pattern=2, offset=3 * MIB, count=MIB)
    vm.command("block-stream", job_id="others", device="overlay")
    wait_for(lambda: not vm.command("query-jobs"), "the backing file to be streamed")
    result = backups.back_up(vm, receiver)
    assert backups.levels(result) == {"vd-a": "resync"}
    backups.assert_same(receiver.layer(vm.name, "vd-a", result["point"]), overlay)


@pytest.mark.parametrize("bitmaps", [False, True])
def test_a_disk_that_grows_on_its_snapshot(
    small_vm: Machine, receiver: ReceiverProcess, bitmaps: bool
) -> None:
    vm = small_vm
    backups.track(vm)
    first = backups.back_up(vm, receiver)["point"]
    vm.write("a", pattern=1, offset=MIB, count=MIB)
    overlay = take_snapshot(vm, bitmaps=bitmaps)
    vm.command("block_resize", node_name="overlay", size=48 * MIB)
    vm.write("a", pattern=2, offset=40 * MIB, count=MIB)
    result = backups.back_up(vm, receiver)
    assert backups.levels(result) == {"vd-a": "resync"}
    backups.assert_same(receiver.layer(vm.name, "vd-a", result["point"]), overlay)
    vm.write("a", pattern=3, offset=42 * MIB, count=MIB)
    result = backups.back_up(vm, receiver)
    assert backups.levels(result) == {"vd-a": "incremental"}
    backups.assert_same(receiver.layer(vm.name, "vd-a", result["point"]), overlay)
    commit(vm)
    disk = only_disk(backups.back_up_exactly(vm, receiver))
    assert (disk["level"], disk["parent"], disk["virtual_size"]) == ("incremental", first, 48 * MIB)
