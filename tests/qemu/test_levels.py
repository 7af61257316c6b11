# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each disk gets the level its own bitmap allows: disks of another size, new ones and removed ones."""

from __future__ import annotations

import json
import subprocess
from itertools import pairwise
from typing import Any

import backups
import pytest
from conftest import MakeMachine
from machine import MIB, Image, Machine, wait_for
from modules import succeed
from receiving import ReceiverProcess

ODD = 32 * MIB + 3 * 512


def resize(vm: Machine, size: int) -> None:
    vm.command("block_resize", node_name="disk-a", size=size)


def only_disk(result: dict[str, Any]) -> dict[str, Any]:
    (disk,) = result["vms"][0]["disks"]
    found: dict[str, Any] = disk
    return found


@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
@pytest.mark.parametrize("iothreads", [False, True])
def test_a_disk_that_grew_stays_incremental(
    make_machine: MakeMachine, receiver: ReceiverProcess, image_format: str, iothreads: bool
) -> None:
    vm = make_machine(images=(Image("a", image_format, ODD),), rounds=0, iothreads=iothreads)
    backups.track(vm, transient=True)
    vm.write("a", pattern=1, offset=MIB, count=MIB)
    vm.write("a", pattern=1, offset=ODD - 4096, count=4096)
    backups.back_up_exactly(vm, receiver)
    # into the middle of the last granule first, then far beyond it
    for before, size in pairwise((ODD, ODD + 512, ODD + 4096, 48 * MIB + 512, 80 * MIB)):
        resize(vm, size)
        vm.write("a", pattern=2, offset=2 * MIB, count=65536)
        vm.write("a", pattern=3, offset=size - 512, count=512)
        disk = only_disk(backups.back_up_exactly(vm, receiver))
        assert (disk["level"], disk["virtual_size"]) == ("incremental", size)
        assert disk["dirty_bytes"] < MIB
        assert disk["level_reason"].endswith(f"; the disk grew from {before} to {size} bytes")


def test_the_grown_area_is_not_written_and_reads_as_zeros(
    small_vm: Machine, receiver: ReceiverProcess
) -> None:
    vm = small_vm
    backups.track(vm)
    backups.back_up(vm, receiver)
    resize(vm, 64 * MIB)
    result = backups.back_up_exactly(vm, receiver)
    assert backups.levels(result) == {"vd-a": "incremental"}
    assert only_disk(result)["dirty_bytes"] == 65536
    restored = vm.directory / "restored"
    restored.mkdir()
    succeed("restore", **receiver.options("restore"), point=result["point"], vm=vm.name, dest=str(restored))
    (image,) = restored.rglob("*.qcow2")
    backups.assert_same(image, vm.directory / "truth-a.qcow2")


@pytest.mark.parametrize(
    ("cluster", "granularity", "smaller", "level"),
    [
        ("2M", 65536, 31 * MIB, "resync"),
        ("2M", 65536, 30 * MIB, "incremental"),
        ("64k", 4096, 31 * MIB + 4096, "resync"),
        ("64k", 65536, 31 * MIB + 4096, "incremental"),
    ],
)
def test_what_qcow2_keeps_behind_the_end_of_the_disk_comes_back_when_it_grows(
    make_machine: MakeMachine,
    receiver: ReceiverProcess,
    cluster: str,
    granularity: int,
    smaller: int,
    level: str,
) -> None:
    vm = make_machine(images=(Image("a", options=("-o", f"cluster_size={cluster}")),), rounds=0)
    vm.write("a", pattern=1, offset=MIB, count=31 * MIB)
    resize(vm, smaller)
    backups.track(vm, granularity=granularity)
    backups.back_up_exactly(vm, receiver)
    resize(vm, 33 * MIB)
    disk = only_disk(backups.back_up_exactly(vm, receiver))
    assert disk["level"] == level
    assert f"the disk grew from {smaller} to {33 * MIB} bytes" in disk["level_reason"]


@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
@pytest.mark.parametrize("smaller", [ODD - 512, ODD - 65536, 16 * MIB])
@pytest.mark.parametrize("larger", [ODD, ODD + MIB])
def test_a_disk_cut_off_and_grown_again_is_right(
    make_machine: MakeMachine, receiver: ReceiverProcess, image_format: str, smaller: int, larger: int
) -> None:
    vm = make_machine(images=(Image("a", image_format, ODD),), rounds=0)
    vm.write("a", pattern=1, offset=MIB, count=ODD - MIB)
    backups.track(vm, transient=True)
    point = backups.back_up_exactly(vm, receiver)["point"]
    resize(vm, smaller)
    resize(vm, larger)
    disk = only_disk(backups.back_up_exactly(vm, receiver))
    if smaller == ODD - 512:
        # less than one granule: the last one is copied every time
        assert disk["level"] == "incremental"
    else:
        assert disk["level"] == "resync"
        reason = f"the disk was made smaller since point {point}, so its bitmap is incomplete; "
        assert disk["level_reason"].startswith(reason)
    assert only_disk(backups.back_up_exactly(vm, receiver))["level"] == "incremental"


def test_a_disk_cut_off_while_its_vm_was_stopped(small_vm: Machine, receiver: ReceiverProcess) -> None:
    vm = small_vm
    vm.write("a", pattern=1, offset=MIB, count=30 * MIB)
    backups.track(vm)
    point = backups.back_up(vm, receiver)["point"]
    vm.stop()
    for size in (16 * MIB, 32 * MIB):
        command = ["qemu-img", "resize", "-q", "--shrink", "-f", "qcow2", str(vm.path("a")), str(size)]
        subprocess.run(command, check=True)
    vm.start()
    disk = only_disk(backups.back_up_exactly(vm, receiver))
    assert (disk["level"], point in disk["level_reason"]) == ("resync", True)


def test_a_disk_that_only_got_smaller(small_vm: Machine, receiver: ReceiverProcess) -> None:
    vm = small_vm
    backups.track(vm)
    backups.back_up(vm, receiver)
    resize(vm, 16 * MIB)
    disk = only_disk(backups.back_up_exactly(vm, receiver))
    assert disk["level"] == "full"
    assert "the disk was made smaller since point" in disk["level_reason"]


def test_an_aborted_session_does_not_hide_that_a_disk_was_cut_off(
    small_vm: Machine, receiver: ReceiverProcess
) -> None:
    vm = small_vm
    vm.write("a", pattern=1, offset=MIB, count=30 * MIB)
    backups.track(vm)
    backups.back_up(vm, receiver)
    resize(vm, 16 * MIB)
    resize(vm, 32 * MIB)
    backups.fail(vm, receiver, receiver.open(), cut_hook="false")
    assert backups.levels(backups.back_up_exactly(vm, receiver)) == {"vd-a": "resync"}


def test_an_aborted_session_leaves_a_grown_disk_incremental(
    small_vm: Machine, receiver: ReceiverProcess
) -> None:
    vm = small_vm
    backups.track(vm)
    point = backups.back_up(vm, receiver)["point"]
    resize(vm, 64 * MIB)
    backups.fail(vm, receiver, receiver.open(), cut_hook="false")
    assert vm.ends("a") == vm.checkpoints("a") == [point]
    assert backups.levels(backups.back_up_exactly(vm, receiver)) == {"vd-a": "incremental"}


def test_a_disk_cut_off_between_plan_and_cut_is_refused(small_vm: Machine, receiver: ReceiverProcess) -> None:
    vm = small_vm
    vm.write("a", pattern=1, offset=MIB, count=30 * MIB)
    backups.track(vm)
    backups.back_up(vm, receiver)
    session = receiver.open(hosts=("hv1", "hv2"))
    peer = backups.peer(receiver, session, vm)
    participant = backups.start(vm, receiver, session)
    receiver.wait_participant(session, "joined", "prepared")
    peer.say("joined")
    receiver.wait_participant(session, "prepared")
    resize(vm, 16 * MIB)
    resize(vm, 32 * MIB)
    peer.say_all("prepared", "stopped")
    result = participant.result()
    assert "was made smaller during the backup" in result["msg"]
    assert result["error"]["code"] == "disk-busy"
    assert backups.levels(backups.back_up_exactly(vm, receiver)) == {"vd-a": "resync"}


def test_a_bitmap_lost_with_its_qemu_says_so(small_vm: Machine, receiver: ReceiverProcess) -> None:
    vm = small_vm
    backups.track(vm)
    point = backups.back_up(vm, receiver)["point"]
    vm.stop()
    vm.start()
    vm.kill()
    vm.start()
    disk = only_disk(backups.back_up_exactly(vm, receiver))
    reason = f"bitmap of point {point} is inconsistent after an unclean stop of the VM"
    assert (disk["level"], disk["level_reason"].startswith(reason)) == ("resync", True)


def plug(vm: Machine, image: Image) -> None:
    """Hot-add a disk."""
    path = vm.directory / f"{vm.name}-{image.name}.{image.format}"
    subprocess.run(["qemu-img", "create", "-q", "-f", image.format, str(path), str(image.bytes)], check=True)
    node = f"disk-{image.name}"
    vm.command(
        "blockdev-add", driver=image.format, node_name=node, file={"driver": "file", "filename": str(path)}
    )
    vm.command("device_add", driver="scsi-hd", id=f"vd-{image.name}", drive=node, bus="scsi.0")


def unplug(vm: Machine, name: str) -> None:
    """Hot-remove a disk; a SCSI disk needs no help of the guest."""
    vm.command("device_del", id=f"vd-{name}")

    def gone() -> bool:
        return not any(f"vd-{name}" in block["qdev"] for block in vm.command("query-block"))

    wait_for(gone, f"disk {name} to be gone")
    vm.command("blockdev-del", node_name=f"disk-{name}")


def test_disks_added_and_removed_while_the_vm_runs(
    make_machine: MakeMachine, receiver: ReceiverProcess
) -> None:
    vm = make_machine(images=(Image("a"),), extra=("-device", "virtio-scsi-pci,id=scsi"))
    backups.track(vm)
    backups.back_up(vm, receiver)
    plug(vm, Image("c", bytes=8 * MIB))
    assert backups.levels(backups.back_up(vm, receiver)) == {"vd-a": "incremental"}
    backups.track(vm)
    result = backups.back_up(vm, receiver)
    assert backups.levels(result) == {"vd-a": "incremental", "vd-c": "full"}
    reasons = {disk["disk"]: disk["level_reason"] for disk in result["vms"][0]["disks"]}
    assert reasons["vd-c"] == "first backup of this disk"
    result = backups.back_up(vm, receiver)
    assert backups.levels(result) == {"vd-a": "incremental", "vd-c": "incremental"}
    unplug(vm, "c")
    result = backups.back_up_exactly(vm, receiver)
    assert backups.levels(result) == {"vd-a": "incremental"}
    point = receiver.call("GET", f"/points/{result['point']}", role="read")
    assert point["complete"]
    assert [disk["disk"] for disk in point["vms"][0]["disks"]] == ["vd-a"]


def test_another_disk_under_the_same_name_is_compared(
    make_machine: MakeMachine, receiver: ReceiverProcess
) -> None:
    vm = make_machine(images=(Image("a"),), extra=("-device", "virtio-scsi-pci,id=scsi"))
    plug(vm, Image("c", bytes=8 * MIB))
    backups.track(vm)
    backups.back_up(vm, receiver)
    unplug(vm, "c")
    (vm.directory / f"{vm.name}-c.qcow2").unlink()
    plug(vm, Image("c", bytes=8 * MIB))
    backups.track(vm)
    assert backups.levels(backups.back_up(vm, receiver)) == {"vd-a": "incremental", "vd-c": "resync"}


def test_a_disk_that_was_away_for_a_while_goes_on_incrementally(
    make_machine: MakeMachine, receiver: ReceiverProcess
) -> None:
    vm = make_machine(images=(Image("a"), Image("b")))
    backups.track(vm)
    backups.back_up(vm, receiver)
    both = vm.images
    vm.stop()
    vm.images = both[:1]
    vm.start()
    assert backups.levels(backups.back_up(vm, receiver)) == {"vd-a": "incremental"}
    vm.stop()
    vm.images = both
    vm.start().wait_writes()
    result = backups.back_up_exactly(vm, receiver)
    assert backups.levels(result) == {"vd-a": "incremental", "vd-b": "incremental"}
    assert json.dumps(result).count('"parent": null') == 0
