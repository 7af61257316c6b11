# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Snapshots of disks taken by others between and during backups."""

from __future__ import annotations

import subprocess
from pathlib import Path

import backups
from machine import MIB, Machine
from modules import run, succeed
from receiving import ReceiverProcess


def take_snapshot(vm: Machine, *, bitmaps: bool) -> Path:
    """Put an overlay over disk a; libvirt also makes an empty namesake of each bitmap on it."""
    overlay = vm.directory / "overlay.qcow2"
    command = [
        "qemu-img",
        "create",
        "-q",
        "-f",
        "qcow2",
        "-b",
        str(vm.path("a")),
        "-F",
        "qcow2",
        str(overlay),
    ]
    subprocess.run(command, check=True)
    vm.command(
        "blockdev-add",
        driver="qcow2",
        node_name="overlay",
        file={"driver": "file", "filename": str(overlay)},
        backing=None,
    )
    actions = [{"type": "blockdev-snapshot", "data": {"node": "disk-a", "overlay": "overlay"}}]
    for name in vm.bitmaps("a").get("disk-a", []) if bitmaps else []:
        data = {"node": "overlay", "name": name, "persistent": True}
        actions.append({"type": "block-dirty-bitmap-add", "data": data})
    vm.command("transaction", actions=actions)
    return overlay


def test_an_increment_across_a_snapshot_of_libvirt(small_vm: Machine, receiver: ReceiverProcess) -> None:
    vm = small_vm
    backups.track(vm)
    first = backups.back_up(vm, receiver)["point"]
    vm.write("a", pattern=1, offset=MIB, count=MIB)
    overlay = take_snapshot(vm, bitmaps=True)
    vm.write("a", pattern=2, offset=4 * MIB, count=MIB)
    result = backups.back_up(vm, receiver)
    (disk,) = result["vms"][0]["disks"]
    # what was written before the snapshot is recorded below it
    assert (disk["level"], disk["parent"], disk["dirty_bytes"]) == ("incremental", first, 2 * MIB)
    backups.assert_same(receiver.layer(vm.name, "vd-a", result["point"]), overlay)
    assert vm.leftovers() == []
    vm.write("a", pattern=3, offset=8 * MIB, count=MIB)
    again = backups.back_up(vm, receiver)
    assert again["vms"][0]["disks"][0]["dirty_bytes"] == MIB
    backups.assert_same(receiver.layer(vm.name, "vd-a", again["point"]), overlay)


def test_a_full_after_a_plain_snapshot(small_vm: Machine, receiver: ReceiverProcess) -> None:
    vm = small_vm
    backups.track(vm)
    backups.back_up(vm, receiver)
    overlay = take_snapshot(vm, bitmaps=False)
    vm.write("a", pattern=2, count=MIB)
    result = backups.back_up(vm, receiver)
    assert backups.levels(result) == {"vd-a": "full"}
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
