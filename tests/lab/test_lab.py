# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab comes up, shows itself, is reached by Ansible, and goes without a trace."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import yaml

from lab import paths
from lab.box import Box
from lab.errors import CommandFailed, NotRunning, ToolMissing, UnknownName
from lab.lab import Lab
from lab.process import require
from lab.status import rows
from lab.topology import VmSpec, images


def test_up_again_leaves_what_is_up_alone(lab: Lab) -> None:
    before = {name: lab.host(name).pid for name in lab.hosts()}
    lab.start(vms=False)
    assert {name: lab.host(name).pid for name in lab.hosts()} == before
    assert list(before) == ["hv1", "hv2", "rcv"]


def test_hosts_reach_each_other_but_nothing_else(lab: Lab) -> None:
    lab.host("hv1").run(["ping", "-c1", "-W2", "10.78.0.13"])
    assert lab.host("hv1").run(["ip", "route"]).stdout.split()[0] == "10.78.0.0/24"
    assert lab.box.run(["ip", "route", "show", "default"]).stdout == ""
    with pytest.raises(CommandFailed, match="Network is unreachable"):
        lab.host("hv1").run(["ping", "-c1", "-W2", "192.0.2.1"])


def test_the_inventory_lets_ansible_in(lab: Lab) -> None:
    groups = yaml.safe_load(lab.inventory.read_text())["all"]["children"]
    assert {name: list(group["hosts"]) for name, group in groups.items()} == {
        "hypervisors": ["hv1", "hv2"],
        "receivers": ["rcv"],
    }
    ansible = Path(sys.executable).parent / "ansible"
    done = lab.controller([str(ansible), "all", "-i", str(lab.inventory), "-m", "ansible.builtin.ping"])
    assert done.stdout.count("SUCCESS") == 3


def test_the_controller_sees_the_checkout(lab: Lab) -> None:
    assert lab.controller(["pwd"], cwd=paths.CHECKOUT).stdout.strip() == str(paths.CHECKOUT)
    assert lab.controller(["printenv", "COLOUR"], env={"COLOUR": "blue"}).stdout == "blue\n"


def test_status_tells_hosts_links_and_partitions(lab: Lab) -> None:
    with lab.network.partitioned("hv1", "rcv"):
        shown = rows(lab)
    assert [(row.name, row.state, row.link) for row in shown if row.kind == "hypervisor"] == [
        ("hv1", "up", "up"),
        ("hv2", "up", "up"),
    ]
    assert sum(row.kind == "fault" for row in shown) == 2


def test_down_leaves_nothing_behind() -> None:
    with Lab.up(f"pytest-brief-{os.getpid()}", hosts=["hv3"], vms=False) as brief:
        idle = VmSpec("idle", "hv3", images("idle", "a"), guest=False)
        brief.start_vms([idle])
        assert brief.vm(idle).running
        assert brief.host("hv3").run(["hostname"]).stdout == "hv3\n"
    assert not brief.state.exists()
    assert not brief.box.cgroup.exists()
    assert not brief.vm(idle).running
    assert brief.state.name not in Path("/proc/mounts").read_text()


def test_labs_with_different_names_do_not_meet(lab: Lab) -> None:
    with Lab.up(f"pytest-other-{os.getpid()}", hosts=["hv1"], vms=False) as other:
        other.host("hv1").run(["touch", "/root/mine"])
        assert not lab.host("hv1").path("/root/mine").exists()
        with pytest.raises(CommandFailed):
            other.host("hv1").run(["ping", "-c1", "-W1", "10.78.0.13"])


def test_a_lab_that_is_not_up_says_how_to_start_it() -> None:
    with pytest.raises(NotRunning, match="The lab pytest-absent is not running; start it with"):
        Box(paths.LAB_BUILD / "pytest-absent").run(["true"])


def test_an_unknown_host_is_answered_with_the_known_ones(lab: Lab) -> None:
    with pytest.raises(UnknownName, match=r"no host named hv9; choose one of hv1, hv2, rcv"):
        lab.host("hv9")


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.process.SEARCH_PATH", "/nowhere")
    with pytest.raises(ToolMissing, match="The program nft is missing; install the Debian package nftables"):
        require("nft")
