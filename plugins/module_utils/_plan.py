# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The receiver's decision what to copy of each disk. For internal use of livebackup.qemu only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _bitmaps, _names
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import NotTracked
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Disk, Vm


@dataclass(frozen=True)
class DiskPlan:
    """What the receiver decided for one disk; ``parent`` is None for a full backup, ``at_rest`` says that
    nobody writes to the disk, ``compared`` that what differs from the parent is found out by digests.
    """

    disk: Disk
    index: int
    point: str
    parent: str | None = None
    export: str = ""
    at_rest: bool = False
    compared: bool = False

    @property
    def source(self) -> str:
        """The node that is read: the disk as it was at the cut."""
        return self.disk.node if self.at_rest else _names.node("snap", self.index)

    @property
    def incremental(self) -> bool:
        """Whether what was written since ``parent`` is copied, as its bitmap says."""
        return self.parent is not None and not self.compared


def disk_plans(vm: Vm, plan: dict[str, Any]) -> list[DiskPlan]:
    """The receiver's plan for the disks of one VM. Raises DiskUnknown, NotTracked."""
    disks = [disk for each in plan["vms"] if each["vm"] == vm.name for disk in each["disks"]]
    return [_disk_plan(vm, index, disk, plan["point"]) for index, disk in enumerate(disks)]


def _disk_plan(vm: Vm, index: int, planned: dict[str, Any], point: str) -> DiskPlan:
    disk, parent = vm.disk(planned["disk"]), planned["parent"]
    compared = planned.get("level") == "resync"
    if parent and not compared and not _bitmaps.is_healthy(disk, parent):
        raise NotTracked(
            f"VM {vm.name}: the receiver wants the changes of disk {disk.name} since point {parent}, but no "
            "healthy bitmap has recorded them; repeat the backup.",
            vm=vm.name,
            disk=disk.name,
        )
    return DiskPlan(disk, index, point, parent, planned["export"], compared=compared)
