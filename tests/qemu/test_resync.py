# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks whose bitmap is lost: only what differs from their last point is sent."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import backups
import pytest
from conftest import MakeMachine
from machine import MIB, Image, Machine, wait_for
from receiving import ReceiverProcess

# TLS records, NBD headers and the handshake come on top of the data
OVERHEAD = 1.1
HANDSHAKE = 16384
CLUSTER = 65536
ODD_BYTES = 33 * MIB + 4608


def lose_bitmaps(vm: Machine) -> None:
    """Cut the VM's power; as its checkpoint was in the image before, it is inconsistent now."""
    vm.stop()
    vm.start()
    vm.kill()
    vm.start()
    backups.track(vm)


def resync(vm: Machine, receiver: ReceiverProcess, **options: Any) -> dict[str, Any]:
    """Back up, which must be a resync with the right content; the one disk of the result."""
    result = backups.back_up_exactly(vm, receiver, **options)
    disk: dict[str, Any] = result["vms"][0]["disks"][0]
    assert disk["level"] == "resync", disk
    return disk


def assert_sent_about(disk: dict[str, Any], changed: int) -> None:
    assert disk["dirty_bytes"] == changed
    assert changed <= disk["sent_bytes"] <= OVERHEAD * changed + HANDSHAKE


@pytest.mark.parametrize("iothreads", [False, True])
def test_after_a_power_cut_only_the_changes_are_sent(
    make_machine: MakeMachine, receiver: ReceiverProcess, iothreads: bool
) -> None:
    vm = make_machine(images=(Image("a", bytes=ODD_BYTES),), rounds=0, iothreads=iothreads)
    backups.track(vm)
    vm.write("a", pattern=1, count=20 * MIB)
    first = backups.back_up_exactly(vm, receiver)
    lose_bitmaps(vm)
    vm.write("a", pattern=2, offset=3 * MIB, count=MIB)
    vm.write("a", pattern=1, offset=5 * MIB, count=MIB)  # as it was
    vm.write("a", pattern=2, offset=7 * MIB + 512, count=512)
    vm.write("a", pattern=0, offset=9 * MIB, count=MIB)
    vm.write("a", pattern=3, offset=ODD_BYTES - 4608, count=4608)
    disk = resync(vm, receiver)
    assert disk["parent"] == first["point"]
    assert disk["level_reason"] == (
        f"bitmap of point {first['point']} is inconsistent after an unclean stop of the VM; "
        f"only what differs from point {first['point']} is sent"
    )
    # data, part of a cluster, zeros, and the last cluster, which the disk does not fill
    assert disk["dirty_bytes"] == MIB + CLUSTER + MIB + 4608
    assert disk["sent_bytes"] <= OVERHEAD * disk["dirty_bytes"] + HANDSHAKE
    vm.write("a", pattern=4, count=CLUSTER)
    assert backups.levels(backups.back_up_exactly(vm, receiver)) == {"vd-a": "incremental"}


def test_a_guest_that_writes_all_the_time(vm: Machine, receiver: ReceiverProcess) -> None:
    backups.track(vm)
    vm.wait_writes()
    backups.back_up_exactly(vm, receiver)
    for level in ("resync", "incremental"):
        if level == "resync":
            lose_bitmaps(vm)
        vm.wait_writes()
        assert set(backups.levels(backups.back_up_exactly(vm, receiver)).values()) == {level}


def test_a_raw_disk_after_a_power_cycle(make_machine: MakeMachine, receiver: ReceiverProcess) -> None:
    vm = make_machine(images=(Image("a", "raw", bytes=ODD_BYTES),), rounds=0)
    backups.track(vm, transient=True)
    vm.write("a", pattern=1, count=8 * MIB)
    point = backups.back_up_exactly(vm, receiver)["point"]
    vm.stop()
    vm.start()
    backups.track(vm, transient=True)
    vm.write("a", pattern=2, offset=30 * MIB, count=2 * MIB)
    disk = resync(vm, receiver)
    assert_sent_about(disk, 2 * MIB)
    assert disk["level_reason"] == (
        f"no bitmap of a committed point on the disk; only what differs from point {point} is sent"
    )


def test_nothing_has_changed(small_vm: Machine, receiver: ReceiverProcess) -> None:
    backups.track(small_vm)
    small_vm.write("a", pattern=1, count=8 * MIB)
    backups.back_up_exactly(small_vm, receiver)
    lose_bitmaps(small_vm)
    assert_sent_about(resync(small_vm, receiver), 0)


def test_everything_has_changed(small_vm: Machine, receiver: ReceiverProcess) -> None:
    backups.track(small_vm)
    small_vm.write("a", pattern=1, count=32 * MIB)
    backups.back_up_exactly(small_vm, receiver)
    lose_bitmaps(small_vm)
    small_vm.write("a", pattern=2, count=32 * MIB)
    assert_sent_about(resync(small_vm, receiver), 32 * MIB)


def test_what_increments_hold_is_known_too(small_vm: Machine, receiver: ReceiverProcess) -> None:
    """The head is the composition of its whole chain, zeros and resyncs included."""
    vm = small_vm
    backups.track(vm)
    vm.write("a", pattern=1, count=16 * MIB)
    backups.back_up_exactly(vm, receiver)
    vm.write("a", pattern=0, offset=MIB, count=MIB)
    backups.back_up_exactly(vm, receiver)
    lose_bitmaps(vm)
    vm.write("a", pattern=2, offset=2 * MIB, count=MIB)
    assert_sent_about(resync(vm, receiver), MIB)
    lose_bitmaps(vm)
    vm.write("a", pattern=1, offset=MIB, count=CLUSTER)
    assert_sent_about(resync(vm, receiver), CLUSTER)


def test_a_disk_that_has_grown_meanwhile(make_machine: MakeMachine, receiver: ReceiverProcess) -> None:
    vm = make_machine(images=(Image("a", "raw", bytes=ODD_BYTES),), rounds=0)
    backups.track(vm, transient=True)
    vm.write("a", pattern=1, count=ODD_BYTES)
    backups.back_up_exactly(vm, receiver)
    vm.stop()
    vm.start()
    backups.track(vm, transient=True)
    vm.command("block_resize", node_name="disk-a", size=40 * MIB + 512)
    vm.write("a", pattern=2, offset=36 * MIB, count=MIB)
    assert_sent_about(resync(vm, receiver), MIB)


def test_a_damaged_digest_table_makes_a_full(small_vm: Machine, receiver: ReceiverProcess) -> None:
    vm = small_vm
    backups.track(vm)
    vm.write("a", pattern=1, count=MIB)
    point = backups.back_up_exactly(vm, receiver)["point"]
    table = receiver.layer(vm.name, "vd-a", point).with_suffix(".digests")
    content = bytearray(table.read_bytes())
    content[-1] ^= 1
    table.write_bytes(content)
    lose_bitmaps(vm)
    disk = backups.back_up_exactly(vm, receiver)["vms"][0]["disks"][0]
    assert disk["level"] == "full"
    assert f"it cannot be compared with point {point}: the digest table" in disk["level_reason"]


def test_a_host_without_nbdkit_says_what_to_install(
    small_vm: Machine, receiver: ReceiverProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vm = small_vm
    backups.track(vm)
    backups.back_up_exactly(vm, receiver)
    lose_bitmaps(vm)
    for name in ("qemu-img", "qemu-io", "sh", "cp"):
        found = subprocess.run(["which", name], capture_output=True, text=True, check=True).stdout.strip()
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).symlink_to(found)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path / "bin"))
        result = backups.back_up(vm, receiver)
    disk = result["vms"][0]["disks"][0]
    assert disk["level"] == "full"
    assert "nbdkit is not installed; apply the role livebackup.qemu.hypervisor" in disk["level_reason"]


def test_an_nbdkit_that_does_not_start_ends_the_backup_and_nothing_else(
    small_vm: Machine, receiver: ReceiverProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vm = small_vm
    backups.track(vm)
    backups.back_up_exactly(vm, receiver)
    lose_bitmaps(vm)
    pretender = tmp_path / "bin/nbdkit"
    pretender.parent.mkdir()
    pretender.write_text(
        '#!/bin/sh\ncase "$*" in *dump-plugin) exec /usr/bin/nbdkit "$@";; esac\necho no room >&2; exit 1\n'
    )
    pretender.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{pretender.parent}:{os.environ['PATH']}")
        result = backups.fail(vm, receiver, receiver.open())
    assert result["error"]["code"] == "comparison-failed"
    assert "nbdkit does not start: no room; repeat the backup" in result["msg"]
    assert_heals(vm, receiver)


def comparers() -> list[int]:
    """Process ids of the processes that compare, anywhere on this machine's test."""
    parents = {str(running.process.pid) for running in backups.modules.RUNNING}
    listed = subprocess.run(["ps", "-eo", "pid,ppid,comm"], capture_output=True, text=True, check=True)
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return [int(pid) for pid, parent, name in rows if name == "nbdkit" and parent in parents]


def start_reading(vm: Machine, receiver: ReceiverProcess, **options: Any) -> tuple[Any, str, int]:
    """Begin a resync and wait until the disk is being read; participant, session, nbdkit."""
    backups.track(vm)
    vm.write("a", pattern=1, count=24 * MIB)
    backups.back_up_exactly(vm, receiver)
    lose_bitmaps(vm)
    session = receiver.open()
    participant = backups.start(vm, receiver, session, speed=MIB, **options)

    def reading() -> bool:
        return any(job["id"] == "lb-read-0" for job in vm.command("query-jobs"))

    wait_for(reading, "the disk to be read")
    wait_for(lambda: receiver.session(session)["disks"][0]["done_bytes"] > 0, "progress")
    return participant, session, comparers()[0]


def assert_heals(vm: Machine, receiver: ReceiverProcess) -> None:
    assert vm.running()
    assert vm.leftovers() == []
    assert vm.write_errors() == 0
    wait_for(lambda: comparers() == [], "the end of nbdkit")
    vm.write("a", pattern=5, offset=MIB, count=MIB)
    assert_sent_about(resync(vm, receiver), MIB)


def test_the_comparing_process_is_killed(small_vm: Machine, receiver: ReceiverProcess) -> None:
    participant, session, nbdkit = start_reading(small_vm, receiver)
    os.kill(nbdkit, signal.SIGKILL)
    result = participant.result()
    assert result["error"]["code"] == "comparison-failed", result["msg"]
    assert "could not be compared with its last point" in result["msg"]
    assert receiver.wait_ended(session)["state"] == "aborted"
    assert_heals(small_vm, receiver)


def test_the_comparing_process_hangs(small_vm: Machine, receiver: ReceiverProcess) -> None:
    participant, session, nbdkit = start_reading(small_vm, receiver, stall_limit=3.0)
    os.kill(nbdkit, signal.SIGSTOP)
    result = participant.result()
    assert result["error"]["code"] == "comparison-failed", result["msg"]
    assert "nothing moved for too long" in result["msg"]
    assert receiver.wait_ended(session)["state"] == "aborted"
    assert_heals(small_vm, receiver)


def test_the_participant_is_killed_while_it_compares(small_vm: Machine, receiver: ReceiverProcess) -> None:
    participant, session, nbdkit = start_reading(small_vm, receiver)
    participant.kill()
    wait_for(lambda: not Path(f"/proc/{nbdkit}").exists(), "the end of nbdkit")
    assert small_vm.running()
    receiver.wait_ended(session)
    small_vm.write("a", pattern=5, offset=MIB, count=MIB)
    assert_sent_about(resync(small_vm, receiver), MIB)


def test_the_session_is_aborted_during_the_comparison(small_vm: Machine, receiver: ReceiverProcess) -> None:
    participant, session, _nbdkit = start_reading(small_vm, receiver)
    receiver.abort(session)
    assert participant.result()["failed"]
    assert_heals(small_vm, receiver)
