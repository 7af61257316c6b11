# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a VM and its disks can be backed up now: pure checks that raise. For internal use only."""

from __future__ import annotations

from ansible_collections.livebackup.qemu.plugins.module_utils import _bitmaps, _capabilities, _graph
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    DiskBusy,
    DiskUnsupported,
    NotTracked,
    VmUnsupported,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import FORBIDDEN_STATES, FORMATS, Disk, Vm


def check_vm(vm: Vm) -> None:
    """Raise VmUnsupported, NotTracked, DiskUnsupported or DiskBusy if this VM cannot be backed up now."""
    missing = sorted(_capabilities.REQUIRED - vm.capabilities)
    if missing:
        raise VmUnsupported(
            f"VM {vm.name}: its QEMU {vm.qemu_version} lacks {', '.join(missing)}; start the VM with "
            f"QEMU 7.2 or newer.",
            vm=vm.name,
            missing=missing,
        )
    if vm.status in FORBIDDEN_STATES:
        raise VmUnsupported(
            f"VM {vm.name} cannot be backed up now: {FORBIDDEN_STATES[vm.status]}; repeat the backup "
            f"when it runs or is paused.",
            vm=vm.name,
            status=vm.status,
        )
    check_tracked(vm)


def check_tracked(vm: Vm) -> None:
    """Raise NotTracked, DiskUnsupported or DiskBusy if its disks cannot be backed up now."""
    tracked = [disk for disk in vm.disks if _bitmaps.is_tracked(disk)]
    if not tracked:
        raise NotTracked(
            f"VM {vm.name}: no disk is tracked; run livebackup.qemu.tracking for it first.", vm=vm.name
        )
    for disk in tracked:
        check_disk(vm, disk)
        check_free(vm, disk)


def check_disk(vm: Vm, disk: Disk) -> None:
    """Raise DiskUnsupported if no backup of this disk is possible, ever."""
    if _bitmaps.is_supported(disk):
        return
    raise DiskUnsupported(
        f"VM {vm.name}: disk {disk.name} cannot be backed up because {_why_not(disk)}; exclude it "
        f"or convert it to one of {', '.join(FORMATS)}.",
        vm=vm.name,
        disk=disk.name,
        format=disk.format,
    )


def _why_not(disk: Disk) -> str:
    if disk.read_only:
        return "it is read-only"
    if disk.device is None:
        return "no device of the guest uses it"
    if disk.format.endswith("+encryption"):
        return "its image is encrypted and the backup would hold its plain content"
    return f"its top node {disk.node} has the unsupported format or filter {disk.format}"


def check_free(vm: Vm, disk: Disk) -> None:
    """Raise DiskBusy if somebody else's job is on a disk: two jobs on a node may crash QEMU."""
    jobs = _graph.foreign_jobs(vm, disk)
    if jobs:
        raise DiskBusy(
            f"VM {vm.name}: disk {disk.name} is in use by the block job {jobs[0]} of another program; wait "
            f"for its end or cancel it.",
            vm=vm.name,
            disk=disk.name,
            job=jobs[0],
        )
