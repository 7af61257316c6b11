# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""File systems frozen by the guest agent around the cut."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import backups
import pytest
from agent import Agent
from conftest import MakeMachine
from machine import Image, Machine, wait_for
from modules import succeed
from receiving import Peer, ReceiverProcess

FREEZE, THAW = "guest-fsfreeze-freeze", "guest-fsfreeze-thaw"
MakeVm = Callable[[], Machine]


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    return tmp_path / "agent.sock"


@pytest.fixture
def vm(make_machine: MakeMachine, channel: Path) -> Machine:
    """A VM with a channel for an agent."""
    extra = ("-device", "virtio-serial-pci", "-chardev", f"socket,id=agent,path={channel},server=on,wait=off")
    extra += ("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0")
    machine = make_machine(images=(Image("a"),), extra=extra, rounds=1)
    backups.track(machine)
    return machine


def test_the_guest_is_frozen_before_the_stop_and_thawed_after(
    vm: Machine, channel: Path, receiver: ReceiverProcess, tmp_path: Path
) -> None:
    with Agent(channel) as agent:
        session = receiver.open(consistency="filesystem")
        result = succeed("backup", **backups.arguments(vm, receiver, session))
    assert result["vms"][0]["consistency"] == "filesystem"
    assert [command for command in agent.heard if command != "guest-sync"] == [FREEZE, THAW]
    assert agent.heard[agent.heard.index(FREEZE) - 1] == "guest-sync"
    assert vm.running()
    assert vm.leftovers() == []


def test_vm_info_shows_the_agent(vm: Machine, channel: Path) -> None:
    assert agent_of(vm) == "silent"
    with Agent(channel):
        assert agent_of(vm) == "responding"


def agent_of(vm: Machine) -> str:
    return str(succeed("vm_info", qmp_sockets=[vm.qmp])["vms"][0]["agent"])


def test_no_agent_is_asked_if_a_crash_consistent_point_will_do(
    vm: Machine, channel: Path, receiver: ReceiverProcess
) -> None:
    with Agent(channel) as agent:
        assert backups.back_up(vm, receiver)["vms"][0]["consistency"] == "crash"
    assert set(agent.heard) <= {"guest-sync"}


def test_a_silent_agent_fails_the_session(vm: Machine, receiver: ReceiverProcess) -> None:
    session = receiver.open(consistency="filesystem")
    result = backups.fail(vm, receiver, session)
    assert f"VM {vm.name}: its file systems are to be frozen but its guest agent is silent" in result["msg"]
    assert result["error"]["code"] == "agent-failed"
    assert receiver.wait_ended(session)["state"] == "aborted"
    assert vm.leftovers() == []


def test_a_vm_without_an_agent_channel(small_vm: Machine, receiver: ReceiverProcess) -> None:
    backups.track(small_vm)
    result = backups.fail(small_vm, receiver, receiver.open(consistency="filesystem"))
    assert "its guest agent is absent" in result["msg"]


def test_an_agent_that_refuses_to_freeze(vm: Machine, channel: Path, receiver: ReceiverProcess) -> None:
    with Agent(channel, refuses=(FREEZE,)) as agent:
        result = backups.fail(vm, receiver, receiver.open(consistency="filesystem"))
    assert "refused guest-fsfreeze-freeze: the guest does not want to" in result["msg"]
    assert agent.heard[-1] == THAW
    assert vm.running()
    assert vm.leftovers() == []


def test_an_agent_that_does_not_answer_the_freeze(
    vm: Machine, channel: Path, receiver: ReceiverProcess
) -> None:
    with Agent(channel, deaf=(FREEZE,)) as agent:
        session = receiver.open(consistency="filesystem", stop_budget_s=3.0)
        result = backups.fail(vm, receiver, session)
    assert result["error"]["code"] in ("agent-failed", "stop-budget-spent")
    assert agent.heard[-1] == THAW
    assert vm.leftovers() == []


def test_a_guest_that_stays_frozen_is_thawed_by_the_next_backup(
    vm: Machine, channel: Path, receiver: ReceiverProcess
) -> None:
    with Agent(channel, refuses=(THAW,)):
        running = backups.start(vm, receiver, receiver.open(consistency="filesystem"))
        wait_for(lambda: vm.leftovers() == ["lb-freeze"], "the clean-up of all but the mark")
        running.kill()
    assert vm.running()
    with Agent(channel) as agent:
        backups.back_up_exactly(vm, receiver)
    assert THAW in agent.heard
    assert not agent.frozen


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_watchdog_thaws(
    vm: Machine, channel: Path, receiver: ReceiverProcess, number: signal.Signals
) -> None:
    with Agent(channel) as agent:
        session = receiver.open(hosts=("hv1", "hv2"), consistency="filesystem", stop_budget_s=4.0)
        peer = Peer(receiver, session, f"other-of-{vm.name}")
        participant = backups.start(vm, receiver, session)
        receiver.wait_participant(session, "joined", "prepared")
        peer.say_all("joined", "prepared")
        wait_for(lambda: agent.frozen and not vm.running(), "the VM to be frozen and stopped")
        os.kill(participant.process.pid, number)
        wait_for(lambda: not agent.frozen and vm.running(), "the VM to be thawed and run")
        wait_for(lambda: not {"lb-freeze", "lb-pause"} & set(vm.leftovers()), "the marks to go")
        participant.kill()
        receiver.abort(session)
