# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Limits of a host and of a session, which all their transfers share."""

from __future__ import annotations

from datetime import datetime

from backups import arguments, start, track
from conftest import MakeMachine
from machine import MIB, Image, Machine, wait_for
from modules import run, succeed
from receiving import ReceiverProcess

# QEMU may send some requests before its first rest.
BURST = 1.7


def filled(make_machine: MakeMachine, mebibytes: int, disks: str = "a") -> Machine:
    """A VM whose disks are of this size and full."""
    images = tuple(Image(name, bytes=mebibytes * MIB) for name in disks)
    vm = make_machine(images=images, paused=True)
    for name in disks:
        vm.write(name, pattern=7, count=mebibytes * MIB)
    track(vm)
    return vm


def rate(receiver: ReceiverProcess, session: str) -> float:
    """Bytes per second over all disks, while they were transferred."""
    shown = receiver.wait_ended(session)
    assert shown["state"] == "committed", shown["reason"]
    at = {each["to"]: datetime.fromisoformat(each["at"]) for each in shown["transitions"]}
    seconds = (at["sealing"] - at["transferring"]).total_seconds()
    return float(sum(disk["sent_bytes"] for disk in shown["disks"])) / seconds


def speed(vm: Machine) -> int:
    """The limit of a VM's only job, 0 if there is none."""
    return next((int(job["speed"]) for job in vm.command("query-block-jobs")), 0)


def test_all_disks_of_a_host_share_its_limit(make_machine: MakeMachine, receiver: ReceiverProcess) -> None:
    one, other = filled(make_machine, 10), filled(make_machine, 10)
    session = receiver.open()
    sockets = [one.qmp, other.qmp]
    succeed("backup", **arguments(one, receiver, session, qmp_sockets=sockets, host_speed=4 * MIB))
    assert rate(receiver, session) < BURST * 4 * MIB


def test_all_hosts_share_the_limit_of_the_session(
    make_machine: MakeMachine, receiver: ReceiverProcess
) -> None:
    one, other = filled(make_machine, 10), filled(make_machine, 10)
    session = receiver.open(hosts=("hv1", "hv2"), speed_limit=4 * MIB)
    participants = [start(one, receiver, session), start(other, receiver, session, host="hv2")]
    for participant in participants:
        participant.result()
    assert rate(receiver, session) < BURST * 4 * MIB


def test_what_one_disk_no_longer_needs_the_others_get(
    make_machine: MakeMachine, receiver: ReceiverProcess
) -> None:
    large, small = filled(make_machine, 30), filled(make_machine, 4)
    session = receiver.open(hosts=("hv1", "hv2"), speed_limit=4 * MIB)
    participants = [start(large, receiver, session), start(small, receiver, session, host="hv2")]
    wait_for(lambda: speed(large) == 2 * MIB, "half of the limit")
    wait_for(lambda: speed(large) == 4 * MIB, "all of the limit")
    for participant in participants:
        assert not participant.result().get("failed")


def test_a_transfer_that_must_be_slow_does_not_look_stalled(
    make_machine: MakeMachine, receiver: ReceiverProcess
) -> None:
    vm = filled(make_machine, 3, disks="abcd")
    session = receiver.open(speed_limit=MIB)
    succeed("backup", **arguments(vm, receiver, session, stall_limit=2.0))
    assert rate(receiver, session) < BURST * MIB


def test_too_low_a_limit_is_refused(small_vm: Machine, receiver: ReceiverProcess) -> None:
    for module, name in (("backup", "host_speed"), ("session", "speed_limit")):
        options = arguments(small_vm, receiver, "none") if module == "backup" else receiver.options()
        options |= {"group": "nightly", "hosts": ["hv1"]} if module == "session" else {}
        result = run(module, **options, **{name: 1000})
        assert f"{name} 1000 is too low; give at least 1048576" in result["msg"]
