# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What we tell the receiver and the user of a VM: pure functions.

For internal use of livebackup.qemu only.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _bitmaps, _capabilities
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import NOT_RUNNING, Bitmap, Disk, Vm


def vm_report(vm: Vm, agent: str, before: Vm | None = None) -> dict[str, Any]:
    """The API's VmReport: facts of the step ``joined``; ``before`` is the VM before it was put in order."""
    earlier = {disk.name: disk for disk in (before or vm).disks}
    return {
        "vm": vm.name,
        "running": vm.running,
        "stopped": vm.status == NOT_RUNNING,
        "agent": agent,
        "qemu_version": vm.qemu_version,
        "capabilities": sorted(vm.capabilities),
        "disks": [disk_report(disk, earlier.get(disk.name, disk)) for disk in vm.disks],
    }


def joined(vm: Vm, agent: str, before: Vm, lacks: str | None) -> dict[str, Any]:
    """The VmReport of the step ``joined``.

    ``before``: the VM as it was found, with the damaged bitmaps that have been removed since; they explain
    why a disk has none. ``lacks``: what this host needs to compare a disk with its last point.
    """
    missing = [command for command in _capabilities.PASSING if command not in vm.capabilities]
    if lacks is None and missing:
        lacks = f"what serves it has no command {missing[0]}"
    return {**vm_report(vm, agent, before), "can_resync": lacks is None, "resync_lacks": lacks}


def disk_report(disk: Disk, before: Disk) -> dict[str, Any]:
    """One disk of a VmReport, with its bitmaps and those it had before."""
    marker = _bitmaps.marker(disk)
    return {
        "disk": disk.name,
        "node": disk.node,
        "format": disk.format,
        "virtual_size": disk.virtual_size,
        "tracked": marker is not None,
        "persistent": disk.can_persist,
        "granularity": marker and marker.granularity,
        "allocated_bytes": disk.allocated_bytes,
        "growth_unit": _bitmaps.growth_unit(disk),
        "bitmaps": [
            _bitmap_report(disk, before, point)
            for point in sorted({*_bitmaps.points(disk), *_bitmaps.points(before)})
        ],
    }


def _bitmap_report(disk: Disk, before: Disk, point: str) -> dict[str, Any]:
    is_there = point in _bitmaps.points(disk)
    fault = _bitmaps.fault(disk if is_there else before, point)
    return {
        "point": point,
        "healthy": is_there and fault is None,
        "dirty_bytes": _bitmaps.dirty_bytes(disk, point),
        "fault": fault,
    }


def reconcile_request(host: str, vms: list[Vm]) -> dict[str, Any]:
    """Body of ``POST /reconcile``: the checkpoint bitmaps of every disk that is or was tracked."""
    return {
        "host": host,
        "vms": [
            {"vm": vm.name, "disks": [_checkpoints(disk) for disk in vm.disks if _is_or_was_tracked(disk)]}
            for vm in vms
        ],
    }


def _is_or_was_tracked(disk: Disk) -> bool:
    return _bitmaps.is_tracked(disk) or bool(_bitmaps.checkpoints(disk))


def _checkpoints(disk: Disk) -> dict[str, Any]:
    return {
        "disk": disk.name,
        "virtual_size": disk.virtual_size,
        "bitmaps": [
            {"point": point, "healthy": _bitmaps.fault(disk, point) is None}
            for point in sorted(_bitmaps.checkpoints(disk))
        ],
    }


def vm_info(vm: Vm, agent: str) -> dict[str, Any]:
    """Everything the module vm_info shows of a VM."""
    report = vm_report(vm, agent)
    report.pop("stopped")
    return {
        **report,
        "socket": vm.socket,
        "status": vm.status,
        "session": vm.session,
        "jobs": [{"id": job["id"], "type": job["type"], "status": job["status"]} for job in vm.jobs],
        "disks": [disk_info(disk) for disk in vm.disks],
    }


def disk_info(disk: Disk) -> dict[str, Any]:
    """Everything the module vm_info shows of a disk."""
    return {
        **disk_report(disk, disk),
        "file": disk.file,
        "device": disk.device,
        "read_only": disk.read_only,
        "supported": _bitmaps.is_supported(disk),
        "backing_nodes": list(disk.chain),
        "bitmaps": [bitmap_info(bitmap) for bitmap in disk.bitmaps],
    }


def bitmap_info(bitmap: Bitmap) -> dict[str, Any]:
    """One bitmap of a disk, whoever owns it."""
    return {
        "name": bitmap.name,
        "node": bitmap.node,
        "granularity": bitmap.granularity,
        "dirty_bytes": bitmap.dirty_bytes,
        "persistent": bitmap.persistent,
        "recording": bitmap.recording,
        "busy": bitmap.busy,
        "inconsistent": bitmap.inconsistent,
        "healthy": not bitmap.inconsistent and not bitmap.busy,
    }
