# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab is made of, as data: hosts, their addresses, virtual machines, their disks and their chain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from lab.errors import UnknownName

CONTROLLER = "controller"
CONTROLLER_ADDRESS = "10.78.0.1"
NETWORK_PREFIX = 24
WORKLOAD_PORT = 7000
IMAGES = "/var/lib/livebackup-lab"


@dataclass(frozen=True)
class HostSpec:
    """A machine of the lab: one systemd-nspawn container with a systemd of its own."""

    name: str
    address: str
    role: Literal["hypervisors", "receivers"]

    @property
    def port(self) -> str:
        """Its port of the lab's bridge, in the box."""
        return f"v-{self.name}"

    @property
    def mac(self) -> str:
        """Fixed, so that a host that comes back after a kill is reachable at once."""
        return f"52:54:00:78:00:{int(self.address.rsplit('.', 1)[1]):02x}"


@dataclass(frozen=True)
class DiskSpec:
    """A disk: device `vd-<letter>`, node `disk-<letter>` on file node `file-<letter>`, serial in capitals."""

    letter: str
    path: str
    format: Literal["qcow2", "raw"] = "qcow2"
    size: int = 256 << 20
    filesystem: bool = True
    """Put an ext4 into the image when it is made."""


@dataclass(frozen=True)
class VmSpec:
    """A virtual machine and where it runs. Disk images that are not there yet are made at its start."""

    name: str
    host: str
    disks: tuple[DiskSpec, ...]
    rate: int = 0
    """Records a second if it leads the chain; 0 follows the machine before it."""
    port: int | None = None
    """Port of its host at which the machine before it reaches its workload."""
    next: str | None = None
    """ADDRESS:PORT of the machine after it in the chain."""
    mode: Literal["work", "idle"] = "work"
    identity: str = ""
    """The machine whose records its guest looks for, if that is another one, as after a restore."""
    guest: bool = True
    """Without a guest only the firmware runs: no agent, no workload, but real disks, and up at once."""
    memory_mib: int = 96
    user: str = "qemu"
    extra: tuple[str, ...] = ()
    """More arguments for QEMU."""


def images(vm: str, letters: str = "ab") -> tuple[DiskSpec, ...]:
    """The usual disks of the machine `vm`, one for each letter."""
    return tuple(DiskSpec(letter, f"{IMAGES}/{vm}/{letter}.qcow2") for letter in letters)


HOSTS = {
    spec.name: spec
    for spec in (
        HostSpec("hv1", "10.78.0.11", "hypervisors"),
        HostSpec("hv2", "10.78.0.12", "hypervisors"),
        HostSpec("rcv", "10.78.0.13", "receivers"),
        HostSpec("hv3", "10.78.0.14", "hypervisors"),
        HostSpec("rcv2", "10.78.0.15", "receivers"),
    )
}
DEFAULT_HOSTS = ("hv1", "hv2", "rcv")

VMS = {
    spec.name: spec
    for spec in (
        VmSpec("db", "hv1", images("db"), rate=10, next="10.78.0.11:7002"),
        VmSpec("app", "hv1", images("app"), port=7002, next="10.78.0.12:7003"),
        VmSpec("web", "hv2", images("web"), port=7003),
    )
}
CHAIN = ("db", "app", "web")
"""Each record is written by these machines in this order."""


def host(name: str) -> HostSpec:
    if name not in HOSTS:
        raise UnknownName("host", name, HOSTS)
    return HOSTS[name]


def vm(name: str) -> VmSpec:
    if name not in VMS:
        raise UnknownName("virtual machine", name, VMS)
    return VMS[name]


def vms_on(hosts: Iterable[str]) -> list[VmSpec]:
    """The usual machines that live on `hosts`."""
    names = set(hosts)
    return [spec for spec in VMS.values() if spec.host in names]
