# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole group at one point, on its hosts, brought up in the order that it declares, and backed up again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from demo.site import Site
from demo.story import Evidence
from lab import qemu
from lab.topology import CHAIN, DiskSpec, VmSpec
from lab.vm import Vm

pytestmark = pytest.mark.timeout(900)

RESTORED = "/var/lib/livebackup-lab/group"
# Each after the one it sends its records to; by their names alone it would be another order.
AFTER = {"web": [], "app": ["web"], "db": ["app"]}
START = """---
- name: Start it
  ansible.builtin.command:
    argv: "{{ lab_commands[livebackup_restore_vm] }}"
  changed_when: true
"""


def restored(site: Site, name: str) -> VmSpec:
    """A machine of the group with the disks that are restored, whose guest only tells what it finds."""
    disks = tuple(DiskSpec(letter, f"{RESTORED}/{name}/vd-{letter}.qcow2") for letter in "ab")
    return replace(site.lab.vm(name).spec, disks=disks, mode="idle", user="root")


def start_command(site: Site, spec: VmSpec) -> list[str]:
    host = site.lab.host(spec.host)
    unit = ["systemd-run", "--quiet", "--collect", f"--unit=vm-{spec.name}.service", "--service-type=exec"]
    return [*unit, "--", *qemu.command(spec, host.spec)]


@pytest.fixture
def stopped_group(site: Site, evidence: Evidence) -> Iterator[None]:
    """The hosts without the machines of the group, which are as before in the end."""
    for vm in site.vms:
        vm.stop()
    yield
    for vm in site.vms:
        vm.stop()
        vm.host.run(["rm", "-rf", RESTORED])
        vm.start()
        vm.wait()


def declare(site: Site, members: list[dict[str, Any]]) -> None:
    token = site.lab.host("rcv").path("/etc/livebackup/tokens/manage").read_text().strip()
    done = site.module(
        "rcv",
        "recovery_plan",
        receiver_url=site.url,
        receiver_ca_path="/etc/livebackup/tls/ca.pem",
        receiver_token=token,
        group="nightly",
        members=members,
    )
    assert "failed" not in done, done


def restore(site: Site, point: str, directory: Path) -> str:
    (directory / "start.yml").write_text(START)
    directory.chmod(0o755)
    run = site.play(
        "restore",
        livebackup_restore_point=point,
        livebackup_restore_to=RESTORED,
        livebackup_restore_start_tasks=str(directory / "start.yml"),
        lab_commands={name: start_command(site, restored(site, name)) for name in CHAIN},
    )
    return run.output


def started_at(vm: Vm) -> int:
    """When its unit was started, in microseconds on the clock that all hosts share."""
    unit = ["systemctl", "show", "--value", "--property=ExecMainStartTimestampMonotonic", vm.unit]
    return int(vm.host.run(unit).stdout)


def test_a_group_comes_up_in_its_order_and_its_backups_go_on(
    site: Site, evidence: Evidence, stopped_group: None, tmp_path: Path
) -> None:
    declare(site, [{"vm": vm, "after": after} for vm, after in AFTER.items()])
    point = evidence.points[0]
    restore(site, point["id"], tmp_path)
    machines = [site.lab.vm(restored(site, name)) for name in AFTER]
    assert all(machine.running for machine in machines)
    moments = [started_at(machine) for machine in machines]
    assert moments == sorted(moments)
    # Three machines that were told to start at once would not be seconds apart; a guest takes them to boot.
    assert min(later - earlier for earlier, later in pairwise(moments)) > 1_000_000
    again = site.backup()
    disks = [disk for vm in again["vms"] for disk in vm["disks"]]
    assert {(disk["level"], disk["parent"]) for disk in disks} == {("incremental", point["id"])}
