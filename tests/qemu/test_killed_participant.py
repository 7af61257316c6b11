# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A participant that is killed, wherever it is: the guest goes on, and the next backup puts all in order."""

from __future__ import annotations

import os
import signal
import time

import backups
import pytest
from machine import MIB, Machine, wait_for
from modules import Running
from receiving import Peer, ReceiverProcess

# What the other host has done when this one waits in a state, so that it stays there.
PEER_STEPS = {
    "joined": (),
    "prepared": ("joined",),
    "stopped": ("joined", "prepared"),
    "cut": ("joined", "prepared", "stopped"),
    "transferred": ("joined", "prepared", "stopped", "cut"),
}


def start_until(
    vm: Machine, receiver: ReceiverProcess, state: str, **options: int
) -> tuple[Running, str, Peer]:
    """Start a participant and bring it to a state in which it waits for another host."""
    session = receiver.open(hosts=("hv1", "hv2"), stop_budget_s=20.0)
    peer = Peer(receiver, session, f"other-of-{vm.name}")
    participant = backups.start(vm, receiver, session, **options)
    receiver.wait_participant(session, "joined", "prepared")
    for step in PEER_STEPS[state]:
        peer.say(step)
    receiver.wait_participant(session, state)
    return participant, session, peer


@pytest.mark.parametrize("state", PEER_STEPS)
def test_the_next_backup_puts_all_in_order(vm: Machine, receiver: ReceiverProcess, state: str) -> None:
    backups.track(vm)
    first = backups.back_up(vm, receiver)["point"]
    participant, session, _peer = start_until(vm, receiver, state)
    participant.kill()
    wait_for(vm.running, "the VM to run")
    vm.wait_writes()
    receiver.abort(session)
    result = backups.back_up_exactly(vm, receiver)
    assert {disk["parent"] for disk in result["vms"][0]["disks"]} == {first}


def test_killed_while_data_flows(vm: Machine, receiver: ReceiverProcess) -> None:
    backups.track(vm)
    vm.write("a", pattern=3, count=16 * MIB)
    session = receiver.open()
    participant = backups.start(vm, receiver, session, speed=MIB)
    receiver.wait_participant(session, "transferring")
    participant.kill()
    # the watchdog has ended the connections, so the job is over although nobody aborted the session
    wait_for(lambda: all(job["status"] == "concluded" for job in vm.command("query-jobs")), "the job's end")
    vm.wait_writes()
    receiver.abort(session)
    assert backups.levels(backups.back_up_exactly(vm, receiver)) == {"vd-a": "full", "vd-b": "full"}


def test_killed_between_the_commit_and_the_clean_up(vm: Machine, receiver: ReceiverProcess) -> None:
    backups.track(vm)
    first = backups.back_up(vm, receiver)["point"]
    participant, session, peer = start_until(vm, receiver, "transferred")
    participant.process.send_signal(signal.SIGSTOP)
    peer.say("transferred")
    assert receiver.wait_ended(session)["state"] == "committed"
    participant.kill()
    assert vm.checkpoints("a") == sorted([first, session])
    result = backups.back_up_exactly(vm, receiver)
    assert {disk["parent"] for disk in result["vms"][0]["disks"]} == {session}


def test_an_open_session_keeps_its_vm(vm: Machine, receiver: ReceiverProcess) -> None:
    backups.track(vm)
    participant, session, _peer = start_until(vm, receiver, "cut")
    participant.kill()
    before = vm.leftovers()
    receiver.group += "b"
    result = backups.fail(vm, receiver, receiver.open())
    assert f"VM {vm.name} belongs to the open session {session}" in result["msg"]
    assert result["error"]["code"] == "vm-busy"
    assert vm.leftovers() == before
    receiver.abort(session)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_watchdog_resumes_within_the_budget(
    vm: Machine, receiver: ReceiverProcess, number: signal.Signals
) -> None:
    backups.track(vm)
    session = receiver.open(hosts=("hv1", "hv2"), stop_budget_s=4.0)
    peer = Peer(receiver, session, f"other-of-{vm.name}")
    participant = backups.start(vm, receiver, session)
    receiver.wait_participant(session, "joined", "prepared")
    peer.say_all("joined", "prepared")
    wait_for(lambda: not vm.running(), "the VM to stop")
    stopped = time.monotonic()
    os.kill(participant.process.pid, number)
    wait_for(vm.running, "the VM to run")
    # a killed participant is noticed at once, a hanging one when the budget is over
    assert time.monotonic() - stopped < (2.5 if number == signal.SIGKILL else 7)
    wait_for(lambda: "lb-pause" not in vm.leftovers(), "the mark to go")
    participant.process.wait(10)
    receiver.abort(session)
    backups.back_up_exactly(vm, receiver)
