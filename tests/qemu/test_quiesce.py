# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""VM by VM: whether its guest is frozen for the cut, and hooks for the applications in it."""

from __future__ import annotations

from pathlib import Path

import backups
import pytest
from agent import Agent
from conftest import MakeMachine
from machine import MIB, Image, Machine, wait_for
from modules import succeed
from receiving import Peer, ReceiverProcess

FREEZE, THAW = "guest-fsfreeze-freeze", "guest-fsfreeze-thaw"
HOLD, GO = ["/sbin/database", "hold"], ["/sbin/database", "go"]
HOOKS = {"freeze": HOLD, "thaw": GO}


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


def doings(agent: Agent) -> list[str]:
    """What the agent was told to do, in order."""
    return [command for command in agent.heard if command not in ("guest-sync", "guest-exec-status")]


def test_a_vm_that_is_only_tried_is_backed_up_without_an_agent(
    vm: Machine, receiver: ReceiverProcess
) -> None:
    session = receiver.open(consistency="filesystem")
    result = succeed("backup", **backups.arguments(vm, receiver, session, quiesce={vm.name: "try"}))
    assert result["vms"][0]["consistency"] == "crash"
    assert "could not be frozen: its guest agent is silent" in str(result["warnings"])
    shown = receiver.call("GET", f"/sessions/{session}")
    assert [disk["consistency"] for disk in shown["disks"]] == ["crash"]


def test_a_vm_that_is_only_tried_is_frozen_if_it_can_be(
    vm: Machine, channel: Path, receiver: ReceiverProcess
) -> None:
    with Agent(channel) as agent:
        result = backups.back_up_exactly(vm, receiver, quiesce={vm.name: "try", "elsewhere": "require"})
    assert result["vms"][0]["consistency"] == "filesystem"
    assert doings(agent) == [FREEZE, THAW]


def test_a_refusal_is_borne_if_freezing_is_only_tried(
    vm: Machine, channel: Path, receiver: ReceiverProcess
) -> None:
    with Agent(channel, refuses=(FREEZE,)) as agent:
        result = backups.back_up_exactly(vm, receiver, quiesce={vm.name: "try"})
    assert result["vms"][0]["consistency"] == "crash"
    assert doings(agent) == [FREEZE, THAW]


def test_no_agent_is_asked_for_a_vm_that_is_not_to_be_frozen(
    vm: Machine, channel: Path, receiver: ReceiverProcess
) -> None:
    session = receiver.open(consistency="filesystem")
    with Agent(channel) as agent:
        succeed("backup", **backups.arguments(vm, receiver, session, quiesce={vm.name: "none"}))
    assert doings(agent) == []


def test_an_agent_that_freezes_late_is_made_to_thaw(
    vm: Machine, channel: Path, receiver: ReceiverProcess
) -> None:
    with Agent(channel, hangs_at=FREEZE) as agent:
        session = receiver.open(stop_budget_s=4.0)
        participant = backups.start(vm, receiver, session, quiesce={vm.name: "try"})
        assert receiver.wait_ended(session)["state"] == "committed"
        assert vm.running()
        agent.wake()
        assert agent.frozen
        wait_for(lambda: not agent.frozen, "the late freeze to be undone")
        result = participant.result()
    assert result["vms"][0]["consistency"] == "crash"
    assert vm.leftovers() == []


def test_a_late_freeze_is_undone_by_the_watchdog_of_a_participant_that_died(
    vm: Machine, channel: Path, receiver: ReceiverProcess
) -> None:
    with Agent(channel, hangs_at=FREEZE) as agent:
        session = receiver.open(stop_budget_s=4.0)
        participant = backups.start(vm, receiver, session, quiesce={vm.name: "try"}, speed=MIB)
        receiver.wait_participant(session, "transferring")
        participant.kill()
        agent.wake()
        wait_for(lambda: not agent.frozen, "the late freeze to be undone")
        wait_for(lambda: "lb-freeze" not in vm.leftovers(), "the mark to go")
        receiver.abort(session)
    assert vm.running()


def test_a_vm_that_must_be_frozen_is_left_out_alone(
    vm: Machine, channel: Path, make_machine: MakeMachine, receiver: ReceiverProcess
) -> None:
    other = make_machine(images=(Image("a"),), rounds=0)
    backups.track(other)
    session = receiver.open(policy="each", stop_budget_s=5.0)
    options = {"qmp_sockets": [vm.qmp, other.qmp], "quiesce": {vm.name: "require"}}
    with Agent(channel, hangs_at=FREEZE) as agent:
        participant = backups.start(vm, receiver, session, **options)
        assert receiver.wait_ended(session)["state"] == "committed"
        agent.wake()
        result = participant.result()
    assert [each["vm"] for each in result["vms"]] == [other.name]
    assert [each["vm"] for each in result["failed_vms"]] == [vm.name]
    assert not agent.frozen
    assert vm.leftovers() == []


def test_hooks_run_around_the_freeze(vm: Machine, channel: Path, receiver: ReceiverProcess) -> None:
    with Agent(channel) as agent:
        result = backups.back_up_exactly(vm, receiver, guest_hooks={vm.name: HOOKS})
    assert result["vms"][0]["consistency"] == "application"
    assert doings(agent) == ["guest-exec", FREEZE, THAW, "guest-exec"]
    assert agent.run == [HOLD, GO]


def test_a_hook_that_fails_fails_the_vm(vm: Machine, channel: Path, receiver: ReceiverProcess) -> None:
    with Agent(channel, statuses={"hold": 3}) as agent:
        result = backups.fail(vm, receiver, receiver.open(), guest_hooks={vm.name: HOOKS})
    assert "/sbin/database hold in the guest ended with exit status 3" in result["msg"]
    assert agent.run == [HOLD, GO]
    assert vm.leftovers() == []


def test_a_hook_that_fails_is_borne_if_freezing_is_only_tried(
    vm: Machine, channel: Path, receiver: ReceiverProcess
) -> None:
    options = {"quiesce": {vm.name: "try"}, "guest_hooks": {vm.name: HOOKS}}
    with Agent(channel, statuses={"hold": 3}) as agent:
        result = backups.back_up_exactly(vm, receiver, **options)
    assert result["vms"][0]["consistency"] == "crash"
    assert agent.run == [HOLD, GO]


def test_the_watchdog_runs_the_thaw_hook(vm: Machine, channel: Path, receiver: ReceiverProcess) -> None:
    with Agent(channel) as agent:
        session = receiver.open(hosts=("hv1", "hv2"))
        peer = Peer(receiver, session, f"other-of-{vm.name}")
        participant = backups.start(vm, receiver, session, guest_hooks={vm.name: HOOKS})
        receiver.wait_participant(session, "joined", "prepared")
        peer.say_all("joined", "prepared")
        wait_for(lambda: agent.frozen and not vm.running(), "the VM to be frozen and stopped")
        participant.kill()
        wait_for(lambda: agent.run == [HOLD, GO], "the thaw hook")
        wait_for(lambda: not {"lb-hook", "lb-freeze", "lb-pause"} & set(vm.leftovers()), "the marks to go")
        receiver.abort(session)
    assert vm.running()


def test_the_next_backup_runs_a_thaw_hook_that_failed(
    vm: Machine, channel: Path, receiver: ReceiverProcess
) -> None:
    with Agent(channel, statuses={"go": 1}):
        session = receiver.open()
        participant = backups.start(vm, receiver, session, guest_hooks={vm.name: HOOKS})
        assert receiver.wait_ended(session)["state"] == "committed"
        wait_for(lambda: vm.leftovers() == ["lb-hook"], "the clean-up of all but the mark")
        participant.kill()
    with Agent(channel) as agent:
        backups.back_up_exactly(vm, receiver)
    assert agent.run[:1] == [GO]
