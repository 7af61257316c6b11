# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The recovery plan of a group as people declare it; pure.

Everything has a default, so that a group without a plan can be brought up as well: all VMs at once, each with
1024 MiB and one processor, ready when its agent answers or its console asks for a login.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from graphlib import CycleError, TopologicalSorter
from ipaddress import IPv4Address, IPv4Interface
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from livebackup_receiver.model import Model
from livebackup_receiver.recovery.checks import PlannedCheck
from livebackup_receiver.retention.policy import time_zone
from livebackup_receiver.retention.schedule import Schedule
from livebackup_receiver.store.paths import NAME

MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*", re.ASCII)
IDE_DISKS = 4


def _check_name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not the name of a VM or disk")
    return text


def _check_mac(text: str) -> str:
    # The lowest bit of the first byte is that of groups, which no card may have for its own.
    if not MAC.fullmatch(text) or int(text[:2], 16) & 1:
        raise ValueError(f"{text!r} is not the address of a card: write one such as 52:54:00:12:34:56")
    return text


def _check_address(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv4 address: write one such as 10.0.0.2") from None


def _check_network(text: str) -> str:
    problem = ValueError(f"{text!r} is not the address of a host in a network: write one such as 10.0.0.1/24")
    try:
        interface = IPv4Interface(text)
    except ValueError:
        raise problem from None
    network = interface.network
    if network.prefixlen > 30 or interface.ip in (network.network_address, network.broadcast_address):
        raise problem
    return str(interface)


def _check_file(text: str) -> str:
    if not FILE.fullmatch(text):
        raise ValueError(f"{text!r} is not a file below the receiver's rehearsal_files directory")
    return text


def _check_pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression ({error})") from None
    return text


def _check_zone(text: str) -> str:
    time_zone(text)
    return text


def _check_schedule(text: str) -> str:
    return str(Schedule.parse(text))


def _twice(names: Iterable[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


Name = Annotated[str, AfterValidator(_check_name)]
Address = Annotated[str, AfterValidator(_check_address)]
File = Annotated[str, AfterValidator(_check_file)]


class Part(Model):
    """A part of a plan; frozen, and strict about the kind of every value."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Nic(Part):
    """A network card; with ``address`` the checks know where the guest is, and DHCP gives it that."""

    model: Literal["virtio", "e1000", "e1000e", "rtl8139"] = "virtio"
    mac: Annotated[str, AfterValidator(_check_mac)] | None = None
    address: Address | None = None


class Boot(Part):
    """The machine that a guest is booted on; ``disks`` are its disks in boot order, null: all, by name.

    ``kernel`` and ``initrd`` are files below the receiver's ``rehearsal_files``.
    """

    memory_mib: Annotated[int, Field(ge=8, le=1 << 22)] = 1024
    cpus: Annotated[int, Field(ge=1, le=255)] = 1
    machine: Literal["q35", "pc"] = "q35"
    firmware: Literal["bios", "uefi"] = "bios"
    disk_bus: Literal["virtio", "scsi", "sata", "ide"] = "virtio"
    nics: list[Nic] = Field(default=[Nic()], max_length=8)
    kernel: File | None = None
    initrd: File | None = None
    append: Annotated[str, Field(max_length=2000)] | None = None
    disks: Annotated[list[Name], Field(max_length=100)] | None = None

    @model_validator(mode="after")
    def _check_parts(self) -> Boot:
        if self.kernel is None and (self.initrd is not None or self.append is not None):
            raise ValueError("initrd and append are for a kernel; name it, or leave them out")
        if self.disk_bus == "ide" and self.machine != "pc":
            raise ValueError("the disk_bus ide is one of the machine pc; take sata on a q35")
        if twice := _twice(self.disks or ()):
            raise ValueError(f"disk {twice} is named twice")
        return self


class Ready(Part):
    """When a guest is up: its agent answers, or its console shows a pattern; whichever is asked for."""

    agent: bool = False
    console: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_check_pattern)] | None = None
    timeout_s: Annotated[float, Field(gt=0, le=7200)] = 300.0

    @model_validator(mode="after")
    def _require_sign(self) -> Ready:
        if not self.agent and self.console is None:
            raise ValueError("say how it is seen that a guest is ready: agent: true, or a pattern as console")
        return self


class PlannedMember(Part):
    """A VM of the group; it is brought up when all that it comes ``after`` are ready and checked."""

    vm: Name
    after: list[Name] = Field(default=[])
    boot: Boot = Boot()
    ready: Ready = Ready(agent=True, console="login:")
    checks: list[PlannedCheck] = Field(default=[], max_length=100)

    @model_validator(mode="after")
    def _check_names(self) -> PlannedMember:
        if twice := _twice(each.name for each in self.checks):
            raise ValueError(f"VM {self.vm} has two checks named {twice}")
        return self


class Network(Part):
    """The network of a rehearsal, which nothing else is on; ``address`` is the receiver's own place in it."""

    address: Annotated[str, AfterValidator(_check_network)]
    dhcp: bool = False

    @property
    def interface(self) -> IPv4Interface:
        return IPv4Interface(self.address)


class RecoveryPlan(Part):
    """How a group is brought up; VMs that are not named are brought up at once, as without a plan.

    ``schedule`` says when the receiver rehearses that, as "daily at 04:00" in ``time_zone``; null: never.
    """

    members: list[PlannedMember] = Field(default=[], max_length=1000)
    network: Network | None = None
    schedule: Annotated[str, AfterValidator(_check_schedule)] | None = None
    time_zone: Annotated[str, AfterValidator(_check_zone)] = "UTC"

    @model_validator(mode="after")
    def _check_members(self) -> RecoveryPlan:
        if twice := _twice(each.vm for each in self.members):
            raise ValueError(f"VM {twice} is named twice")
        _check_order(self.members)
        for member in self.members:
            _check_reach(member, self.network)
        if self.network is not None:
            _check_addresses(self.members, self.network)
        return self

    @property
    def zone(self) -> tzinfo:
        return time_zone(self.time_zone)

    def member(self, vm: str) -> PlannedMember:
        """What is planned for a VM, with the defaults if nothing is."""
        return next((each for each in self.members if each.vm == vm), PlannedMember(vm=vm))


def mac_of(vm: str, number: int) -> str:
    """The address of a card for which none is declared: the same whenever the VM is brought up."""
    digest = hashlib.sha256(f"{vm}/{number}".encode()).hexdigest()
    return ":".join(["52:54:00", digest[:2], digest[2:4], digest[4:6]])


def _check_order(members: Sequence[PlannedMember]) -> None:
    """:raise ValueError: a VM comes after one that is not named, or after itself"""
    known = {each.vm for each in members}
    for member in members:
        for other in member.after:
            if other not in known:
                raise ValueError(f"VM {member.vm} comes after {other}, which is no member of the plan")
    try:
        TopologicalSorter({each.vm: each.after for each in members}).prepare()
    except CycleError as error:
        circle = " after ".join(reversed(error.args[1]))
        raise ValueError(f"nothing could be first: VM {circle}") from None


def _check_reach(member: PlannedMember, network: Network | None) -> None:
    """:raise ValueError: a check has no way to the guest"""
    for check in member.checks:
        if network is None and check.over_network:
            raise ValueError(f"check {check.name} of VM {member.vm} goes over a network; declare one")
        placed = any(nic.address for nic in member.boot.nics) or (network is not None and network.dhcp)
        if check.tcp is not None and check.address is None and not placed:
            raise ValueError(
                f"check {check.name} of VM {member.vm} needs an address; give one to a card of the VM"
            )


def _check_addresses(members: Sequence[PlannedMember], network: Network) -> None:
    """:raise ValueError: one lies outside the network, or is used twice"""
    used = [nic.address for member in members for nic in member.boot.nics if nic.address]
    if twice := _twice([*used, str(network.interface.ip)]):
        raise ValueError(f"the address {twice} is used twice")
    for address in used:
        if IPv4Address(address) not in network.interface.network:
            raise ValueError(f"the address {address} is not in the network {network.interface.network}")
    macs = (nic.mac for member in members for nic in member.boot.nics if nic.mac)
    if twice := _twice(macs):
        raise ValueError(f"two cards have the address {twice}")
