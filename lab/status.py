# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a lab as rows of a table."""

from __future__ import annotations

from typing import NamedTuple

from lab.host import Host
from lab.lab import Lab
from lab.topology import CONTROLLER, CONTROLLER_ADDRESS


class Row(NamedTuple):
    name: str
    kind: str
    state: str
    address: str
    link: str


def rows(lab: Lab) -> list[Row]:
    """The controller, then each host followed by the virtual machines on it, and the partitions in force."""
    if not lab.box.running:
        return []
    found = [Row(CONTROLLER, "controller", "up", CONTROLLER_ADDRESS, "")]
    for name in lab.hosts():
        host = lab.host(name)
        found.append(_host_row(lab, host))
        found.extend(Row(f"  {vm}", "virtual machine", state, "", "") for vm, state in units(host).items())
    found.extend(Row("partition", "fault", rule, "", "") for rule in lab.network.partitions())
    return found


def _host_row(lab: Lab, host: Host) -> Row:
    link = "up" if lab.network.link_is_up(host.name) else "down"
    kind = host.spec.role.removesuffix("s")
    return Row(host.name, kind, "up" if host.running else "down", host.spec.address, link)


def units(host: Host) -> dict[str, str]:
    """State of each virtual machine that systemd of the host knows."""
    if not host.running:
        return {}
    listing = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "vm-*.service"]
    fields = [line.split() for line in host.run(listing).stdout.splitlines()]
    return {unit[0].removeprefix("vm-").removesuffix(".service"): unit[2] for unit in fields}
