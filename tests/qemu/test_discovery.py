# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What vm_info finds behind sockets, and what it says of those that give nothing."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Any

from conftest import MakeMachine
from control import Control
from machine import Image, Machine
from modules import run, succeed


def test_a_vm_is_shown_with_its_disks(vm: Machine) -> None:
    (found,) = succeed("vm_info", qmp_sockets=[vm.qmp])["vms"]
    assert (found["vm"], found["status"], found["agent"], found["session"]) == (
        vm.name,
        "running",
        "absent",
        None,
    )
    assert {"copy-before-write", "snapshot-access", "on-cbw-error"} <= set(found["capabilities"])
    disks = {disk["disk"]: disk for disk in found["disks"]}
    assert disks["vd-a"]["file"] == str(vm.path("a"))
    assert (disks["vd-a"]["format"], disks["vd-a"]["supported"], disks["vd-a"]["tracked"]) == (
        "qcow2",
        True,
        False,
    )
    assert (disks["boot"]["read_only"], disks["boot"]["supported"]) == (True, False)


def test_it_changes_nothing_in_check_mode_either(small_vm: Machine) -> None:
    for check in (False, True):
        assert not succeed("vm_info", qmp_sockets=[small_vm.qmp], check=check)["changed"]


def test_a_pattern_finds_all_and_vms_picks(make_machine: MakeMachine) -> None:
    for name in ("app", "web"):
        make_machine(name=name, images=(Image("a"),), paused=True)
    pattern = str(make_machine(name="db", images=(), paused=True).directory / "*.qmp")
    assert names(succeed("vm_info", qmp_sockets=[pattern])) == ["app", "db", "web"]
    assert names(succeed("vm_info", qmp_sockets=[pattern], vms=["web", "app"])) == ["web", "app"]
    unknown = run("vm_info", qmp_sockets=[pattern], vm="mail")
    assert "No QMP socket of this host belongs to VM mail (found: app, db, web)" in unknown["msg"]


def names(result: dict[str, Any]) -> list[str]:
    return [vm["vm"] for vm in result["vms"]]


def test_a_vm_without_a_name_is_called_by_its_socket(make_machine: MakeMachine) -> None:
    vm = make_machine(name="unnamed", images=(), paused=True, nameless=True)
    assert names(succeed("vm_info", qmp_sockets=[vm.qmp])) == ["unnamed"]


def test_two_vms_of_one_name(make_machine: MakeMachine, tmp_path: Path) -> None:
    first = make_machine(images=(), paused=True, name="twin")
    (tmp_path / "elsewhere").mkdir()
    second = Machine(tmp_path / "elsewhere", name="twin", images=(), paused=True).create().start()
    try:
        refused = run("vm_info", qmp_sockets=[first.qmp, second.qmp], vm="twin")
        assert "answer with the VM name twin" in refused["msg"]
    finally:
        second.kill()


def test_a_busy_socket(small_vm: Machine) -> None:
    other = Control(small_vm.qmp)
    try:
        result = succeed("vm_info", qmp_sockets=[small_vm.qmp], qmp_timeout=1)
        refused = run("tracking", qmp_sockets=[small_vm.qmp], qmp_timeout=1)
    finally:
        other.close()
    assert result["vms"] == []
    assert result["unreachable"][0]["error"]["code"] == "qmp-socket-busy"
    message = f"QMP socket {small_vm.qmp} is busy: another client (libvirt, another backup) holds it"
    assert refused["msg"].startswith(message)
    assert succeed("tracking", qmp_sockets=[small_vm.qmp])["changed"]


def test_a_socket_many_wait_for(small_vm: Machine) -> None:
    with contextlib.ExitStack() as stack:
        stack.callback(Control(small_vm.qmp).close)
        for _client in range(20):
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(small_vm.qmp)
        refused = run("tracking", qmp_sockets=[small_vm.qmp], qmp_timeout=1)
    assert refused["error"]["code"] == "qmp-socket-busy"


def test_an_absent_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "nobody.qmp")
    assert run("tracking", qmp_sockets=[path])["msg"] == (
        f"QMP socket {path} does not exist; start the VM or correct qmp_sockets."
    )
    assert succeed("vm_info", qmp_sockets=[path])["unreachable"][0]["error"]["code"] == "qmp-socket-absent"


def test_a_stopped_vm(small_vm: Machine) -> None:
    small_vm.kill()
    assert Path(small_vm.qmp).exists()
    refused = run("tracking", qmp_sockets=[small_vm.qmp], vm=small_vm.name)
    assert (
        refused["msg"]
        == f"VM {small_vm.name} is not running: nobody listens on {small_vm.qmp}; start the VM."
    )
    # nobody asked for it by name
    assert succeed("tracking", qmp_sockets=[small_vm.qmp])["vms"] == []


def test_what_is_no_qmp_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "other.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        result = succeed("vm_info", qmp_sockets=[path], qmp_timeout=0.5)
    assert result["unreachable"][0]["error"]["code"] == "qmp-socket-busy"


def test_names_of_disks(make_machine: MakeMachine, tmp_path: Path) -> None:
    for name in ("drive", "scsi", "plain"):
        (tmp_path / f"{name}.raw").write_bytes(bytes(1 << 20))
    drive = f"file={tmp_path}/{{0}}.raw,format=raw,if=none"
    extra = [
        *("-drive", drive.format("drive") + ",id=system", "-device", "virtio-blk-pci,drive=system"),
        *("-drive", drive.format("scsi") + ",id=other", "-device", "virtio-scsi-pci"),
        *("-device", "scsi-hd,drive=other,id=data"),
        *("-drive", f"file={tmp_path}/plain.raw,format=raw,if=ide,media=cdrom"),
        *("-drive", "if=floppy"),
    ]
    vm = make_machine(images=(Image("a"),), paused=True, extra=tuple(extra))
    (found,) = succeed("vm_info", qmp_sockets=[vm.qmp])["vms"]
    assert sorted(disk["disk"] for disk in found["disks"]) == ["boot", "data", "system", "vd-a"]
