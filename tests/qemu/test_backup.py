# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups of VMs whose guests write all the time, to a real receiver."""

from __future__ import annotations

import subprocess

import pytest
from backups import arguments, assert_same, back_up, back_up_exactly, levels, start, track
from conftest import MakeMachine
from machine import MIB, Image, Machine, heads
from modules import run, succeed
from receiving import ReceiverProcess


@pytest.mark.parametrize("iothreads", [False, True])
def test_full_and_increments_while_the_guest_writes(
    make_machine: MakeMachine, receiver: ReceiverProcess, iothreads: bool
) -> None:
    vm = make_machine(iothreads=iothreads)
    track(vm)
    parents: list[str | None] = [None]
    for _round in range(4):
        vm.wait_writes()
        result = back_up_exactly(vm, receiver)
        disks = result["vms"][0]["disks"]
        assert [disk["parent"] for disk in disks] == [parents[-1]] * 2
        parents.append(result["point"])
        layers = [receiver.layer(vm.name, f"vd-{image}", result["point"]) for image in "ab"]
        first, second = heads(layers)
        assert second <= first <= second + 1
    assert disks[0]["level"] == "incremental"
    assert disks[0]["dirty_bytes"] < disks[0]["virtual_size"]


def test_the_pause_is_measured_and_kept_with_the_point(vm: Machine, receiver: ReceiverProcess) -> None:
    track(vm)
    result = back_up(vm, receiver)
    pause = result["vms"][0]["pause_ms"]
    assert 0 < pause < 5000
    point = receiver.call("GET", f"/points/{result['point']}", role="read")
    assert point["vms"][0]["pause_ms"] == pause
    assert point["vms"][0]["consistency"] == "crash"


def test_a_disk_added_later_gets_a_full_and_the_others_an_increment(
    vm: Machine, receiver: ReceiverProcess
) -> None:
    track(vm, disks=["vd-a"])
    assert levels(back_up(vm, receiver)) == {"vd-a": "full"}
    track(vm)
    assert levels(back_up_exactly(vm, receiver)) == {"vd-a": "incremental", "vd-b": "full"}


def test_a_disk_that_is_tracked_no_more_is_named(vm: Machine, receiver: ReceiverProcess) -> None:
    track(vm)
    first = back_up(vm, receiver)["point"]
    succeed("tracking", qmp_sockets=[vm.qmp], disks=["vd-b"], state="absent")
    (disk,) = back_up(vm, receiver)["vms"][0]["disks"]
    assert disk["disk"] == "vd-a"
    assert disk["level_reason"].endswith(
        f"; disk vd-b of the VM, which point {first} holds, is no longer tracked"
    )


def test_increments_survive_an_orderly_stop_of_the_vm(vm: Machine, receiver: ReceiverProcess) -> None:
    track(vm)
    back_up(vm, receiver)
    vm.stop()
    vm.start().wait_writes()
    assert set(levels(back_up_exactly(vm, receiver)).values()) == {"incremental"}


def test_a_killed_vm_is_resynchronized(vm: Machine, receiver: ReceiverProcess) -> None:
    track(vm)
    back_up(vm, receiver)
    vm.stop()
    vm.start().wait_writes()
    vm.kill()
    vm.start().wait_writes()
    assert set(levels(back_up_exactly(vm, receiver)).values()) == {"resync"}
    assert set(levels(back_up_exactly(vm, receiver)).values()) == {"incremental"}


def test_raw_disks_are_incremental_until_the_vm_stops(
    make_machine: MakeMachine, receiver: ReceiverProcess
) -> None:
    vm = make_machine(images=(Image("a", "raw"), Image("b")))
    track(vm, transient=True)
    back_up_exactly(vm, receiver)
    assert set(levels(back_up_exactly(vm, receiver)).values()) == {"incremental"}
    vm.stop()
    vm.start().wait_writes()
    track(vm, transient=True)
    assert levels(back_up_exactly(vm, receiver)) == {"vd-a": "resync", "vd-b": "incremental"}


def test_another_granularity_is_used_from_the_next_backup_on(vm: Machine, receiver: ReceiverProcess) -> None:
    track(vm)
    back_up(vm, receiver)
    track(vm, granularity=262144)
    back_up_exactly(vm, receiver)
    vm.wait_writes()
    assert set(levels(back_up_exactly(vm, receiver)).values()) == {"incremental"}


def test_a_paused_vm_is_backed_up_and_stays_paused(vm: Machine, receiver: ReceiverProcess) -> None:
    track(vm)
    vm.wait_writes()
    vm.command("stop")
    result = back_up(vm, receiver)
    assert not vm.running()
    assert result["vms"][0]["pause_ms"] == 0.0
    assert_same(receiver.layer(vm.name, "vd-a", result["point"]), vm.path("a"))
    # QEMU closes descriptors of a descriptor set only while the VM runs
    vm.command("cont")
    succeed("vm_info", qmp_sockets=[vm.qmp])
    assert vm.leftovers() == []


def test_what_was_not_written_is_not_stored(make_machine: MakeMachine, receiver: ReceiverProcess) -> None:
    vm = make_machine(images=(Image("a", bytes=256 * MIB),))
    track(vm)
    point = back_up_exactly(vm, receiver)["point"]
    assert receiver.layer(vm.name, "vd-a", point).stat().st_blocks * 512 < 64 * MIB


def test_a_limited_speed_is_kept(make_machine: MakeMachine, receiver: ReceiverProcess) -> None:
    vm = make_machine(images=(Image("a"),), paused=True)
    vm.write("a", pattern=7, count=8 * MIB)
    track(vm)
    session = receiver.open()
    result = succeed("backup", **arguments(vm, receiver, session, speed=2 * MIB))
    assert result["vms"][0]["disks"][0]["sent_bytes"] >= 8 * MIB
    moments = {each["to"]: each["at"] for each in receiver.session(session)["transitions"]}
    assert seconds(moments["sealing"]) - seconds(moments["transferring"]) > 2


def seconds(moment: str) -> float:
    """Seconds in the day of a moment as the API writes it."""
    hours, minutes, rest = moment.split("T")[1].rstrip("Z").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def test_too_low_a_speed_is_refused(vm: Machine, receiver: ReceiverProcess) -> None:
    result = run("backup", **arguments(vm, receiver, "none", speed=1000))
    assert "at least 1048576 bytes per second" in result["msg"]
    assert result["error"]["code"] == "option-invalid"


def test_check_mode_foresees_and_changes_nothing(vm: Machine, receiver: ReceiverProcess) -> None:
    track(vm)
    foreseen = succeed("backup", check=True, **arguments(vm, receiver, "none"))
    assert levels(foreseen) == {"vd-a": "full", "vd-b": "full"}
    point = back_up(vm, receiver)["point"]
    vm.wait_writes()
    before = vm.bitmaps()
    foreseen = succeed("backup", check=True, **arguments(vm, receiver, "none"))
    disk = foreseen["vms"][0]["disks"][0]
    assert (disk["level"], disk["parent"]) == ("incremental", point)
    assert 0 < disk["dirty_bytes"] < disk["virtual_size"]
    assert vm.bitmaps() == before
    assert vm.leftovers() == []


def test_a_committed_session_is_left_alone(vm: Machine, receiver: ReceiverProcess) -> None:
    track(vm)
    session = back_up(vm, receiver)["session"]
    again = succeed("backup", **arguments(vm, receiver, session))
    assert (again["changed"], again["point"]) == (False, session)


def test_a_vm_without_tracked_disk_fails_the_session(vm: Machine, receiver: ReceiverProcess) -> None:
    session = receiver.open()
    result = run("backup", **arguments(vm, receiver, session))
    message = f"VM {vm.name}: no disk is tracked; run livebackup.qemu.tracking for it first."
    assert result["msg"] == message
    assert message.rstrip(".") in receiver.wait_ended(session)["reason"]
    assert vm.leftovers() == []


def test_two_vms_of_a_host_are_cut_at_one_instant(
    make_machine: MakeMachine, receiver: ReceiverProcess
) -> None:
    first, second = make_machine(name="first"), make_machine(name="second")
    for machine in (first, second):
        track(machine)
        machine.wait_writes()
    marks = first.directory / "marks"
    # both guests must stand still while the hook runs
    copies = f"cp {first.path('a')} {marks}1; cp {second.path('a')} {marks}2"
    hook = f"sh -c '{copies}; echo $LIVEBACKUP_VMS > {marks}'"
    result = back_up(first, receiver, qmp_sockets=[first.qmp, second.qmp], cut_hook=hook)
    assert marks.read_text().strip() == "first,second"
    for number, name in enumerate(("first", "second"), start=1):
        layer = receiver.layer(name, "vd-a", result["point"])
        compared = subprocess.run(
            ["qemu-img", "compare", layer, f"{marks}{number}"], capture_output=True, check=False
        )
        assert compared.returncode == 0


def test_a_backup_of_one_vm_leaves_the_sockets_of_the_others_free(
    make_machine: MakeMachine, receiver: ReceiverProcess
) -> None:
    vm, other = make_machine(), make_machine(images=(Image("a"),), rounds=0)
    track(vm)
    vm.write("a", pattern=3, count=16 * MIB)
    pattern = str(vm.directory / "*.qmp")
    session = receiver.open()
    running = start(vm, receiver, session, qmp_sockets=[pattern], vms=[vm.name], speed=2 * MIB)
    receiver.wait_participant(session, "transferring")
    found = succeed("vm_info", qmp_sockets=[pattern], qmp_timeout=2)
    assert [each["vm"] for each in found["vms"]] == [other.name]
    assert [each["error"]["code"] for each in found["unreachable"]] == ["qmp-socket-busy"]
    assert not running.result().get("failed")
