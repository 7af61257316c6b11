# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guests that erase parts of a disk during its backup: the point keeps what was there at its cut."""

from __future__ import annotations

import pytest
from backups import assert_same, back_up_exactly, levels, start, track
from conftest import MakeMachine
from machine import MIB, Image, Machine, wait_for
from receiving import ReceiverProcess

SIZE = 12 * MIB
# What is erased is read last, so that the job has not come to it yet.
FIRST = 6 * MIB
STRIDE = 192 << 10
LENGTH = 64 << 10
SPEED = 4 * MIB
READERS = ("lb-job-0", "lb-read-0")


def transferring(vm: Machine) -> bool:
    """Whether a job reads the frozen disk."""
    return any(job["id"] in READERS for job in vm.command("query-jobs"))


def erase_islands(vm: Machine, how: str) -> None:
    """Erase a cluster here and there, so that erased ones lie between others."""
    for offset in range(FIRST, SIZE, STRIDE):
        vm.erase("a", how, offset=offset, count=LENGTH)


def back_up_while_erasing(vm: Machine, receiver: ReceiverProcess, how: str) -> str:
    """The level of a backup whose content is compared with the disk at the cut."""
    session, truth = receiver.open(), vm.directory / "truth.qcow2"
    hook = f"cp {vm.path('a')} {truth}"
    participant = start(vm, receiver, session, cut_hook=hook, speed=SPEED)
    wait_for(lambda: transferring(vm), "the transfer")
    erase_islands(vm, how)
    assert transferring(vm), "the transfer had ended before all was erased"
    result = participant.result()
    assert not result.get("failed"), result
    assert_same(receiver.layer(vm.name, "vd-a", session), truth)
    return levels(result)["vd-a"]


def full_of_data(make_machine: MakeMachine) -> Machine:
    """A tracked VM whose disk has no cluster without data."""
    vm = make_machine(images=(Image("a", bytes=SIZE),))
    vm.write("a", pattern=7, count=SIZE)
    track(vm)
    return vm


@pytest.mark.parametrize("how", ["write -z", "write -z -u", "discard"])
def test_what_a_guest_erases_during_a_backup_is_in_the_point(
    make_machine: MakeMachine, receiver: ReceiverProcess, how: str
) -> None:
    vm = full_of_data(make_machine)
    assert back_up_while_erasing(vm, receiver, how) == "full"
    vm.write("a", pattern=8, count=SIZE)
    assert back_up_while_erasing(vm, receiver, how) == "incremental"


def test_what_a_guest_erases_during_a_comparison_is_in_the_point(
    make_machine: MakeMachine, receiver: ReceiverProcess
) -> None:
    vm = full_of_data(make_machine)
    back_up_exactly(vm, receiver)
    vm.stop()
    vm.start().kill()
    vm.start()
    vm.write("a", pattern=8, count=SIZE)
    assert back_up_while_erasing(vm, receiver, "write -z") == "resync"
