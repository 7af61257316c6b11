# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""VMs that do not run, backed up through a storage daemon on their host."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import backups
from conftest import MakeMachine
from machine import MIB, Image, Machine, wait_for
from modules import run, succeed
from receiving import ReceiverProcess


def arguments(vm: Machine, receiver: ReceiverProcess, session: str, **options: Any) -> dict[str, Any]:
    """The options of the module backup for a VM that may be stopped."""
    disks = [
        {"name": f"vd-{image.name}", "file": str(vm.path(image.name)), "format": image.format}
        for image in vm.images
    ]
    stopped = [{"name": vm.name, "disks": disks}]
    sockets = [str(vm.directory / "*.qmp")]
    return backups.arguments(
        vm, receiver, session, **{"qmp_sockets": sockets, "stopped_vms": stopped, **options}
    )


def back_up(vm: Machine, receiver: ReceiverProcess, **options: Any) -> dict[str, Any]:
    """Back a stopped VM up and compare every layer with its images."""
    result = succeed("backup", **arguments(vm, receiver, receiver.open(), **options))
    for image in vm.images:
        layer = receiver.layer(vm.name, f"vd-{image.name}", result["point"])
        backups.assert_same(layer, vm.path(image.name))
    assert daemons(vm) == []
    return result


def daemons(vm: Machine) -> list[int]:
    """The processes that have an image of the VM open."""
    paths = {str(vm.path(image.name)) for image in vm.images}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            files = {os.readlink(link) for link in (process / "fd").iterdir()}
        except OSError:
            continue
        if files & paths:
            found.append(int(process.name))
    return found


def stored_bitmaps(vm: Machine, image: str) -> list[str]:
    output = subprocess.run(["qemu-img", "info", vm.path(image)], capture_output=True, text=True, check=True)
    lines = [line.strip() for line in output.stdout.splitlines()]
    return sorted(line.removeprefix("name: ") for line in lines if line.startswith("name: "))


def test_a_stopped_vm_goes_on_incrementally(vm: Machine, receiver: ReceiverProcess) -> None:
    backups.track(vm)
    first = backups.back_up(vm, receiver)["point"]
    vm.wait_writes()
    vm.stop()
    result = back_up(vm, receiver)
    disks = result["vms"][0]["disks"]
    assert backups.levels(result) == {"vd-a": "incremental", "vd-b": "incremental"}
    assert {disk["parent"] for disk in disks} == {first}
    assert {disk["level_reason"] for disk in disks} == {
        f"changes since point {first}; the VM was not running"
    }
    assert all(0 < disk["dirty_bytes"] < disk["virtual_size"] for disk in disks)
    assert result["vms"][0]["pause_ms"] == 0
    point = result["point"]
    assert stored_bitmaps(vm, "a") == sorted(
        ["livebackup:tracked", f"livebackup:{point}", f"livebackup:end:{point}"]
    )
    again = back_up(vm, receiver)
    assert {disk["dirty_bytes"] for disk in again["vms"][0]["disks"]} == {65536}
    # and when it runs again, it goes on from there
    vm.start().wait_writes()
    assert set(backups.levels(backups.back_up_exactly(vm, receiver)).values()) == {"incremental"}


def test_a_vm_that_runs_is_backed_up_like_any_other(vm: Machine, receiver: ReceiverProcess) -> None:
    backups.track(vm)
    result = succeed("backup", **arguments(vm, receiver, receiver.open()))
    assert result["vms"][0]["disks"][0]["level_reason"] == "first backup of this disk"
    assert vm.leftovers() == []


def test_a_running_and_a_stopped_vm_make_one_point(
    make_machine: MakeMachine, receiver: ReceiverProcess
) -> None:
    running, stopped = make_machine(), make_machine(images=(Image("a"),), rounds=0)
    for machine in (running, stopped):
        backups.track(machine)
    stopped.write("a", pattern=4, offset=MIB, count=MIB)
    stopped.stop()
    result = back_up(stopped, receiver)
    assert [vm["vm"] for vm in result["vms"]] == [running.name, stopped.name]
    result = back_up(stopped, receiver, vms=[running.name])
    levels = [set(backups.levels({"vms": [vm]}).values()) for vm in result["vms"]]
    assert levels == [{"incremental"}, {"incremental"}]
    assert running.leftovers() == []


def test_a_raw_disk_and_one_that_grew(make_machine: MakeMachine, receiver: ReceiverProcess) -> None:
    vm = make_machine(images=(Image("a"), Image("b", "raw")), rounds=0)
    backups.track(vm, transient=True)
    backups.back_up(vm, receiver)
    vm.write("b", pattern=4, offset=MIB, count=MIB)
    vm.stop()
    command = ["qemu-img", "resize", "-q", "-f", "qcow2", str(vm.path("a")), str(48 * MIB + 512)]
    subprocess.run(command, check=True)
    result = back_up(vm, receiver)
    assert backups.levels(result) == {"vd-a": "incremental", "vd-b": "full"}


def test_an_image_in_use_is_never_opened(vm: Machine, receiver: ReceiverProcess) -> None:
    backups.track(vm)
    backups.back_up(vm, receiver)
    sockets = [str(vm.directory / "none*.qmp")]
    session = receiver.open()
    result = run("backup", **arguments(vm, receiver, session, qmp_sockets=sockets))
    assert result["error"]["code"] == "image-in-use"
    message = f"VM {vm.name}: the image {vm.path('a')} of disk vd-a is in use by another process"
    assert result["msg"].startswith(message)
    assert receiver.wait_ended(session)["state"] == "aborted"
    vm.wait_writes()
    assert set(backups.levels(backups.back_up_exactly(vm, receiver)).values()) == {"incremental"}


def test_one_image_in_use_does_not_spoil_the_bitmaps_of_the_other(
    vm: Machine, receiver: ReceiverProcess
) -> None:
    backups.track(vm)
    backups.back_up(vm, receiver)
    vm.stop()
    with subprocess.Popen(
        ["qemu-io", "-f", "qcow2", str(vm.path("b"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as user:
        assert user.stdin is not None
        wait_for(lambda: user.pid in daemons(vm), "the other user of the image")
        result = run("backup", **arguments(vm, receiver, receiver.open()))
        assert result["error"] == {
            **result["error"],
            "code": "image-in-use",
            "disk": "vd-b",
        }
        user.stdin.close()
    assert set(backups.levels(back_up(vm, receiver)).values()) == {"incremental"}


def test_a_killed_participant_takes_its_daemon_along(small_vm: Machine, receiver: ReceiverProcess) -> None:
    vm = small_vm
    backups.track(vm)
    backups.back_up(vm, receiver)
    vm.write("a", pattern=7, count=24 * MIB)
    vm.stop()
    session = receiver.open()
    participant = backups.modules.start("backup", **arguments(vm, receiver, session, speed=MIB))
    receiver.wait_participant(session, "transferring")
    assert len(daemons(vm)) == 1
    participant.process.send_signal(signal.SIGKILL)
    wait_for(lambda: not daemons(vm), "the storage daemon to leave", timeout=10)
    # it has stored its bitmaps, and the VM can start
    vm.start()
    receiver.wait_ended(session)
    assert backups.levels(backups.back_up_exactly(vm, receiver)) == {"vd-a": "incremental"}


def test_an_aborted_session_gives_the_images_free(small_vm: Machine, receiver: ReceiverProcess) -> None:
    vm = small_vm
    backups.track(vm)
    first = backups.back_up(vm, receiver)["point"]
    vm.write("a", pattern=7, count=24 * MIB)
    vm.stop()
    session = receiver.open()
    participant = backups.modules.start("backup", **arguments(vm, receiver, session, speed=MIB))
    receiver.wait_participant(session, "transferring")
    receiver.abort(session)
    assert participant.result()["failed"]
    assert daemons(vm) == []
    assert f"livebackup:{first}" in stored_bitmaps(vm, "a")
    assert f"livebackup:{session}" not in stored_bitmaps(vm, "a")
    assert backups.levels(back_up(vm, receiver)) == {"vd-a": "incremental"}


def test_a_receiver_that_hangs_does_not_keep_the_images(small_vm: Machine, receiver: ReceiverProcess) -> None:
    vm = small_vm
    backups.track(vm)
    backups.back_up(vm, receiver)
    vm.write("a", pattern=7, count=24 * MIB)
    vm.stop()
    session = receiver.open()
    options = arguments(vm, receiver, session, speed=MIB, stall_limit=2)
    participant = backups.modules.start("backup", **options)
    receiver.wait_participant(session, "transferring")
    daemon = receiver.newest_daemon
    os.kill(daemon, signal.SIGSTOP)
    try:
        assert participant.result()["error"]["code"] == "receiver-stalled"
    finally:
        # the receiver may have killed it
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon, signal.SIGCONT)
    assert daemons(vm) == []
    assert backups.levels(back_up(vm, receiver)) == {"vd-a": "incremental"}


def test_a_killed_daemon_costs_a_full_backup(small_vm: Machine, receiver: ReceiverProcess) -> None:
    vm = small_vm
    backups.track(vm)
    backups.back_up(vm, receiver)
    vm.write("a", pattern=7, count=24 * MIB)
    vm.stop()
    session = receiver.open()
    participant = backups.modules.start("backup", **arguments(vm, receiver, session, speed=MIB))
    receiver.wait_participant(session, "transferring")
    for daemon in daemons(vm):
        os.kill(daemon, signal.SIGKILL)
    assert participant.result()["failed"]
    result = back_up(vm, receiver)
    assert backups.levels(result) == {"vd-a": "full"}
    assert backups.levels(back_up(vm, receiver)) == {"vd-a": "incremental"}


def test_a_stopped_vm_that_fails_is_left_out(make_machine: MakeMachine, receiver: ReceiverProcess) -> None:
    running, stopped = make_machine(), make_machine(images=(Image("a"),), rounds=0)
    for machine in (running, stopped):
        backups.track(machine)
    backups.back_up(running, receiver, qmp_sockets=[running.qmp, stopped.qmp])
    stopped.write("a", pattern=4, count=24 * MIB)
    stopped.stop()
    session = receiver.open(policy="each")
    participant = backups.modules.start("backup", **arguments(stopped, receiver, session, speed=MIB))
    receiver.wait_participant(session, "transferring")
    for daemon in daemons(stopped):
        os.kill(daemon, signal.SIGKILL)
    result = participant.result()
    assert [vm["vm"] for vm in result["failed_vms"]] == [stopped.name]
    assert [vm["vm"] for vm in result["vms"]] == [running.name]
    result = back_up(stopped, receiver)
    assert [set(backups.levels({"vms": [vm]}).values()) for vm in result["vms"]] == [
        {"incremental"},
        {"full"},
    ]


def test_check_mode_foresees_and_changes_nothing(small_vm: Machine, receiver: ReceiverProcess) -> None:
    vm = small_vm
    backups.track(vm)
    point = backups.back_up(vm, receiver)["point"]
    vm.stop()
    before = vm.path("a").read_bytes()
    foreseen = succeed("backup", check=True, **arguments(vm, receiver, "none"))
    (disk,) = foreseen["vms"][0]["disks"]
    assert (disk["level"], disk["parent"]) == ("incremental", point)
    assert vm.path("a").read_bytes() == before


def test_an_image_that_does_not_exist(small_vm: Machine, receiver: ReceiverProcess) -> None:
    vm = small_vm
    vm.stop()
    stopped = [{"name": vm.name, "disks": [{"name": "vd-a", "file": "/nowhere/a.qcow2", "format": "qcow2"}]}]
    result = run("backup", **arguments(vm, receiver, receiver.open(), stopped_vms=stopped))
    assert "The image /nowhere/a.qcow2 of disk vd-a cannot be used" in result["msg"]
    assert result["error"]["code"] == "option-invalid"
