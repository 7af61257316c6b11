# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Receivers, disks and people that misbehave: the backup fails, and the guest never notices."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import backups
import pytest
from conftest import MakeMachine
from machine import MIB, Image, Machine, wait_for
from modules import Running
from receiving import Peer, ReceiverProcess


def transfer_slowly(vm: Machine, receiver: ReceiverProcess, **options: float) -> tuple[Running, str]:
    """Start a backup that takes long, and wait until its data flows."""
    backups.track(vm)
    vm.write("a", pattern=3, count=24 * MIB)
    session = receiver.open()
    participant = backups.start(vm, receiver, session, speed=2 * MIB, **options)
    receiver.wait_participant(session, "transferring")
    return participant, session


def assert_unharmed(vm: Machine) -> None:
    """The guest writes, no write has failed, and nothing of the failed backup is left."""
    vm.wait_writes()
    assert vm.write_errors() == 0
    assert vm.leftovers() == []
    assert vm.checkpoints("a") == []
    assert vm.devices()["vd-a"] == "disk-a"


def test_a_hanging_storage_daemon(vm: Machine, receiver: ReceiverProcess) -> None:
    participant, session = transfer_slowly(vm, receiver, stall_limit=2.0)
    daemon = receiver.newest_daemon
    os.kill(daemon, signal.SIGSTOP)
    try:
        since = time.monotonic()
        vm.wait_writes(10)
        result = participant.result()
        assert result["error"]["code"] == "receiver-stalled", result["msg"]
        assert "did not take any data for too long" in result["msg"]
        assert time.monotonic() - since < 30
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon, signal.SIGCONT)
    assert_unharmed(vm)
    assert result["msg"].rstrip(".") in receiver.wait_ended(session)["reason"]


def test_other_qmp_clients_wait_no_longer_than_the_stall_limit(
    vm: Machine, receiver: ReceiverProcess
) -> None:
    participant, session = transfer_slowly(vm, receiver, stall_limit=3.0)
    os.kill(receiver.newest_daemon, signal.SIGSTOP)
    since = time.monotonic()
    vm.command("stop")
    assert time.monotonic() - since < 12
    vm.command("cont")
    assert participant.result()["error"]["code"] == "receiver-stalled"
    receiver.wait_ended(session)
    assert_unharmed(vm)


def test_a_killed_storage_daemon(vm: Machine, receiver: ReceiverProcess) -> None:
    participant, session = transfer_slowly(vm, receiver)
    os.kill(receiver.newest_daemon, signal.SIGKILL)
    result = participant.result()
    assert result["failed"]
    assert receiver.wait_ended(session)["state"] == "aborted"
    assert_unharmed(vm)


def test_an_aborted_session(vm: Machine, receiver: ReceiverProcess) -> None:
    participant, session = transfer_slowly(vm, receiver)
    receiver.abort(session)
    result = participant.result()
    assert result["failed"]
    assert result["error"]["code"] in ("session-aborted", "transfer-failed")
    assert_unharmed(vm)


def test_a_vm_that_dies(vm: Machine, receiver: ReceiverProcess) -> None:
    participant, session = transfer_slowly(vm, receiver)
    vm.kill()
    result = participant.result()
    assert result["error"]["code"] == "qmp-lost"
    assert f"VM {vm.name}" in receiver.wait_ended(session)["reason"]
    vm.start().wait_writes()
    backups.track(vm)
    assert set(backups.levels(backups.back_up_exactly(vm, receiver)).values()) == {"full"}


@pytest.fixture
def tiny_directory(tmp_path: Path) -> Iterator[Path]:
    """A file system that a scratch image soon fills."""
    directory = tmp_path / "tiny"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", directory], check=True)
    yield directory
    subprocess.run(["umount", "--lazy", directory], check=True)


def test_a_full_scratch_directory(
    make_machine: MakeMachine, receiver: ReceiverProcess, tiny_directory: Path
) -> None:
    vm = make_machine(rounds=1)
    participant, session = transfer_slowly(vm, receiver, scratch_dir=str(tiny_directory))
    # the guest overwrites more than the scratch image can keep
    vm.write("a", pattern=4, count=24 * MIB)
    result = participant.result()
    assert result["error"]["code"] == "snapshot-broken", result["msg"]
    assert "give scratch_dir more room" in result["msg"]
    assert receiver.wait_ended(session)["state"] == "aborted"
    assert_unharmed(vm)


def test_a_scratch_directory_without_any_room(
    vm: Machine, receiver: ReceiverProcess, tiny_directory: Path
) -> None:
    backups.track(vm)
    (tiny_directory / "filler").write_bytes(bytes(12 * MIB))
    result = backups.fail(vm, receiver, receiver.open(), scratch_dir=str(tiny_directory))
    assert result["error"]["code"] == "scratch-unusable"
    assert f"The scratch image in {tiny_directory} cannot be made: No space left on device;" in result["msg"]
    assert_unharmed(vm)


def test_a_missing_scratch_directory(vm: Machine, receiver: ReceiverProcess) -> None:
    backups.track(vm)
    result = backups.fail(vm, receiver, receiver.open(), scratch_dir="/nonexistent/scratch")
    assert "The scratch directory /nonexistent/scratch cannot be used" in result["msg"]
    assert_unharmed(vm)


def test_a_host_that_never_stops_its_vms(vm: Machine, receiver: ReceiverProcess) -> None:
    backups.track(vm)
    session = receiver.open(hosts=("hv1", "hv2"), stop_budget_s=3.0)
    peer = Peer(receiver, session, f"other-of-{vm.name}")
    participant = backups.start(vm, receiver, session)
    receiver.wait_participant(session, "joined", "prepared")
    peer.say_all("joined", "prepared")
    wait_for(lambda: not vm.running(), "the VM to stop")
    since = time.monotonic()
    wait_for(vm.running, "the VM to run")
    assert time.monotonic() - since < 5
    result = participant.result()
    assert result["error"]["code"] == "stop-budget-spent", result["msg"]
    assert_unharmed(vm)


def test_a_cut_hook_that_fails(vm: Machine, receiver: ReceiverProcess) -> None:
    backups.track(vm)
    session = receiver.open()
    result = backups.fail(vm, receiver, session, cut_hook="sh -c 'echo no room >&2; exit 3'")
    assert result["error"]["code"] == "cut-hook-failed"
    assert "no room" in result["msg"]
    assert "no room" in receiver.wait_ended(session)["reason"]
    assert_unharmed(vm)


def test_a_cut_hook_that_takes_too_long(vm: Machine, receiver: ReceiverProcess) -> None:
    backups.track(vm)
    result = backups.fail(vm, receiver, receiver.open(), cut_hook="sleep 60", cut_hook_timeout=0.5)
    assert "did not end within 0.5 seconds" in result["msg"]
    assert_unharmed(vm)


def test_somebody_who_resumes_the_vm_during_the_cut(vm: Machine, receiver: ReceiverProcess) -> None:
    backups.track(vm)
    flag = vm.directory / "in-the-window"
    session = receiver.open()
    participant = backups.start(
        vm,
        receiver,
        session,
        cut_hook=f"sh -c 'touch {flag}; while [ -e {flag} ]; do sleep 0.1; done'",
        cut_hook_timeout=8,
    )
    wait_for(flag.exists, "the stop window")
    vm.command("cont")
    flag.unlink()
    result = participant.result()
    assert "was resumed by another QMP client" in result["msg"]
    assert_unharmed(vm)


def test_a_disk_that_is_resized_before_the_cut(small_vm: Machine, receiver: ReceiverProcess) -> None:
    vm = small_vm
    backups.track(vm)
    session = receiver.open(hosts=("hv1", "hv2"))
    peer = Peer(receiver, session, f"other-of-{vm.name}")
    participant = backups.start(vm, receiver, session)
    receiver.wait_participant(session, "joined", "prepared")
    peer.say("joined")
    receiver.wait_participant(session, "prepared")
    vm.command("block_resize", node_name="disk-a", size=64 * MIB)
    peer.say_all("prepared", "stopped")
    result = participant.result()
    assert "was resized" in result["msg"]
    assert result["error"]["code"] == "disk-busy"


def test_a_foreign_job_on_the_disk(small_vm: Machine, receiver: ReceiverProcess, tmp_path: Path) -> None:
    vm = small_vm
    backups.track(vm)
    vm.write("a", pattern=3, count=8 * MIB)
    target = tmp_path / "mirror.qcow2"
    vm.command(
        "drive-mirror",
        job_id="others",
        device="disk-a",
        target=str(target),
        format="qcow2",
        sync="full",
        speed=1,
    )
    result = backups.fail(vm, receiver, receiver.open())
    assert "disk vd-a is in use by the block job others of another program" in result["msg"]
    assert vm.leftovers() == []
    assert [job["id"] for job in vm.command("query-jobs")] == ["others"]


def test_an_unsupported_format_is_refused(make_machine: MakeMachine, receiver: ReceiverProcess) -> None:
    vm = make_machine(images=(Image("a", "vmdk"),))
    result = backups.fail(vm, receiver, receiver.open())
    assert "no disk is tracked" in result["msg"]


def test_an_unreachable_receiver(vm: Machine, receiver: ReceiverProcess) -> None:
    backups.track(vm)
    options = {"receiver_url": "https://127.0.0.1:9"}
    result = backups.fail(vm, receiver, "none", **options)
    assert result["error"]["code"] == "receiver-unreachable"
    assert "check receiver_url" in result["msg"]


def test_under_the_policy_each_the_other_vms_go_on(
    make_machine: MakeMachine, receiver: ReceiverProcess
) -> None:
    dying, living = make_machine(), make_machine()
    for machine in (dying, living):
        backups.track(machine)
    dying.write("a", pattern=3, count=16 * MIB)
    session = receiver.open(policy="each")
    sockets = [dying.qmp, living.qmp]
    participant = backups.start(dying, receiver, session, qmp_sockets=sockets, speed=2 * MIB)
    receiver.wait_participant(session, "transferring")
    dying.kill()
    result = participant.result()
    assert not result.get("failed"), result["msg"]
    assert [vm["vm"] for vm in result["vms"]] == [living.name]
    assert [vm["vm"] for vm in result["failed_vms"]] == [dying.name]
    assert living.leftovers() == []
    point = receiver.call("GET", f"/points/{session}", role="read")
    assert (point["complete"], [vm["vm"] for vm in point["vms"]]) == (False, [living.name])
