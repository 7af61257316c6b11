# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which disks are backed up: placing and removing markers. For internal use of livebackup.qemu only."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import (
    _discovery,
    _names,
    _report,
    _suitability,
    _transactions,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._diff import DifferenceTracker
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    CannotPersist,
    DiskBusy,
    OptionError,
    VmOwned,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._qmp import Monitor
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Bitmap, Disk, Vm


@dataclass(frozen=True)
class Wish:
    """What the user wants of every VM; ``disks`` empty means all disks."""

    present: bool
    granularity: int = 65536
    transient: bool = False
    disks: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """The bitmaps of one disk: to remove first, then to add."""

    disk: Disk
    remove: tuple[Bitmap, ...] = ()
    add: tuple[Bitmap, ...] = field(default=())

    def after(self) -> Disk:
        """The disk as it will be; pure."""
        kept = tuple(bitmap for bitmap in self.disk.bitmaps if bitmap not in self.remove)
        return dataclasses.replace(self.disk, bitmaps=kept + self.add)

    def transactions(self) -> list[list[dict[str, Any]]]:
        """Two transactions: a name is free only after the first has ended."""
        return [
            [_transactions.bitmap_remove(bitmap.node, bitmap.name) for bitmap in self.remove],
            [
                _transactions.bitmap_add(
                    bitmap.node,
                    bitmap.name,
                    granularity=bitmap.granularity,
                    persistent=bitmap.persistent,
                    disabled=True,
                )
                for bitmap in self.add
            ],
        ]


def tracking(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Bring the markers of the VMs into the wanted state. Raises LivebackupError."""
    return asyncio.run(_tracking(params, check_mode))


async def _tracking(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    wish = wish_of(params)
    async with _discovery.discovered(params["qmp_sockets"], params["qmp_timeout"]) as discovery:
        monitors = _discovery.select(discovery, params["vms"])
        vms = [await _discovery.inspect(monitor) for monitor in monitors]
        # all VMs are planned before the first is changed
        plans = [plan(vm, wish) for vm in vms]
        commands = [] if check_mode else [await _apply(*pair) for pair in zip(monitors, plans)]
    return result(vms, plans, [command for sent in commands for command in sent])


def wish_of(params: dict[str, Any]) -> Wish:
    """The module's options as a wish. Raises OptionError for a granularity QEMU does not take."""
    granularity = params["granularity"]
    if granularity < 512 or granularity & (granularity - 1):
        raise OptionError(
            f"granularity {granularity} is not a power of two of at least 512; give for example 65536.",
            granularity=granularity,
        )
    return Wish(
        present=params["state"] == "present",
        granularity=granularity,
        transient=params["transient"],
        disks=tuple(params["disks"] or ()),
        exclude=tuple(params["exclude"] or ()),
    )


def plan(vm: Vm, wish: Wish) -> list[Change]:
    """What to change on each disk of a VM, disks that stay as they are included. Pure.

    Raises DiskUnknown, DiskUnsupported, CannotPersist, DiskBusy, VmOwned.
    """
    refuse_running_backup(vm)
    decide = _plan_present if wish.present else _plan_absent
    return [decide(vm, disk, wish) for disk in chosen(vm, wish)]


def chosen(vm: Vm, wish: Wish) -> list[Disk]:
    """The disks a wish is about. Raises DiskUnknown for a name the VM does not have.

    Without names: all disks that can be written.
    """
    for name in wish.disks + wish.exclude:
        vm.disk(name)
    if wish.disks:
        return [vm.disk(name) for name in wish.disks if name not in wish.exclude]
    return [disk for disk in vm.disks if disk.name not in wish.exclude and not disk.read_only]


def refuse_running_backup(vm: Vm) -> None:
    """Raise VmOwned while a backup job of ours runs on the VM."""
    for job in vm.jobs:
        if job["id"].startswith(_names.PREFIX) and job["status"] != "concluded":
            raise VmOwned(
                f"VM {vm.name} is being backed up by session {vm.session}; wait for its end or abort it with "
                f"livebackup.qemu.session.",
                vm=vm.name,
                session=vm.session,
            )


def _plan_present(vm: Vm, disk: Disk, wish: Wish) -> Change:
    _suitability.check_disk(vm, disk)
    if not disk.can_persist and not wish.transient:
        raise CannotPersist(
            f"VM {vm.name}: disk {disk.name} ({disk.format}) cannot store a bitmap, so its tracking would "
            "be lost each time the VM stops and a full backup would follow; set transient to true to "
            "accept that, or convert the disk to qcow2 version 3.",
            vm=vm.name,
            disk=disk.name,
        )
    marker = disk.find(_names.MARKER)
    if marker and not marker.inconsistent and marker.granularity == wish.granularity:
        return Change(disk)
    wanted = Bitmap(disk.node, _names.MARKER, wish.granularity, persistent=disk.can_persist, recording=False)
    return Change(disk, remove=(marker,) if marker else (), add=(wanted,))


def _plan_absent(vm: Vm, disk: Disk, dummy: Wish) -> Change:
    ours = [bitmap for bitmap in disk.bitmaps if _names.is_ours(bitmap.name)]
    for bitmap in ours:
        if bitmap.node != disk.node:
            raise DiskBusy(
                f"VM {vm.name}: disk {disk.name} has the bitmap {bitmap.name} on its read-only backing node "
                f"{bitmap.node}; commit the snapshot that was taken of the disk first.",
                vm=vm.name,
                disk=disk.name,
                node=bitmap.node,
            )
    return Change(disk, remove=tuple(ours))


async def _apply(monitor: Monitor, changes: list[Change]) -> list[dict[str, Any]]:
    already = len(monitor.sent)
    for change in changes:
        for actions in change.transactions():
            await monitor.transaction(actions)
    return [{"vm": monitor.vm, **command} for command in monitor.sent[already:]]


def result(vms: list[Vm], plans: list[list[Change]], commands: list[dict[str, Any]]) -> dict[str, Any]:
    """What the module returns: the same keys in check mode, and whether anything changed or not. Pure."""
    tracker = DifferenceTracker()
    reports = []
    for vm, changes in zip(vms, plans):
        for change in changes:
            names = [
                [bitmap_line(bitmap) for bitmap in disk.bitmaps] for disk in (change.disk, change.after())
            ]
            tracker.compare(f"{vm.name}/{change.disk.name}", *names)
        reports.append({"vm": vm.name, "disks": [_report.disk_info(change.after()) for change in changes]})
    return {"changed": tracker.changed, "diff": tracker.diff(), "vms": reports, "qmp_commands": commands}


def bitmap_line(bitmap: Bitmap) -> str:
    """A bitmap in a diff."""
    states = {"inconsistent": bitmap.inconsistent, "transient": not bitmap.persistent}
    words = [f"granularity {bitmap.granularity}", *(word for word, holds in states.items() if holds)]
    return f"{bitmap.name} ({', '.join(words)})"
