# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook restore brings a group up in the order of its recovery plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import backups
import plays
import pytest
from conftest import MakeMachine
from machine import Image, Machine
from modules import succeed
from receiving import ReceiverProcess

# How the VMs are started is the operator's; here, that is only noted: they run all the time.
START = """---
- name: Start it
  ansible.builtin.shell: echo {{ livebackup_restore_vm }} >> {{ started }}
  changed_when: true
"""


@dataclass
class Group:
    """Three VMs, by name in the order in which they do not come up."""

    vms: list[Machine]
    receiver: ReceiverProcess
    point: str
    directory: Path

    @property
    def started(self) -> list[str]:
        """The VMs that were started, in that order."""
        path = self.directory / "started"
        return path.read_text().split() if path.exists() else []

    def declare(self, timeout_s: int) -> None:
        """Each comes after the next one."""
        names = [vm.name for vm in self.vms]
        ready = {"agent": True, "timeout_s": timeout_s}
        members = [
            {"vm": name, "after": after, "ready": ready}
            for name, after in zip(names, [[each] for each in names[1:]] + [[]], strict=True)
        ]
        manage = self.receiver.options("manage")
        succeed("recovery_plan", **manage, group=self.receiver.group, members=members)

    def variables(self, **more: Any) -> dict[str, Any]:
        tasks = self.directory / "start.yml"
        tasks.write_text(START)
        return plays.variables(
            self.vms[0],
            self.receiver,
            livebackup_restore_point=self.point,
            livebackup_restore_to=str(self.directory / "restored"),
            livebackup_restore_start_tasks=str(tasks),
            started=str(self.directory / "started"),
            **more,
        )


@pytest.fixture
def group(make_machine: MakeMachine, receiver: ReceiverProcess, tmp_path: Path) -> Group:
    vms = [make_machine(images=(Image("a"),), rounds=0) for dummy in range(3)]
    for vm in vms:
        backups.track(vm)
    point = backups.back_up(vms[0], receiver, qmp_sockets=[vm.qmp for vm in vms])["point"]
    return Group(vms, receiver, point, tmp_path)


def test_each_comes_when_those_before_it_are_up(group: Group) -> None:
    group.declare(timeout_s=30)
    plays.succeed("restore", group.variables())
    assert group.started == [vm.name for vm in reversed(group.vms)]
    for vm in group.vms:
        assert (group.directory / "restored" / vm.name / "vd-a.qcow2").exists()


def test_without_a_plan_all_come_at_once(group: Group) -> None:
    plays.succeed("restore", group.variables())
    assert group.started == sorted(vm.name for vm in group.vms)


def test_when_one_does_not_come_up_no_further_one_is_started(group: Group) -> None:
    group.declare(timeout_s=3)
    middle = group.vms[1]
    middle.command("stop")
    said = " ".join(plays.fail("restore", group.variables()).split())
    assert f"{middle.name} did not come up within 3 seconds, so no further VM is started" in said
    assert group.started == [group.vms[2].name, middle.name]


def test_nothing_is_started_where_a_file_could_not_be_written(group: Group) -> None:
    taken = group.directory / "restored" / group.vms[0].name / "vd-a.qcow2"
    taken.parent.mkdir(parents=True)
    taken.write_text("somebody's")
    said = " ".join(plays.fail("restore", group.variables()).split())
    assert "exists and is not what this task would restore" in said
    assert group.started == []
