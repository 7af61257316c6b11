# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decisions about dirty bitmaps: pure functions over data. For internal use of livebackup.qemu only.

A checkpoint bitmap ``livebackup:<point>`` is enabled for its whole life and never cleared. The marker
``livebackup:tracked`` is disabled and never used: its name alone says that the disk is backed up, and its
granularity is the one checkpoint bitmaps get.
"""

from __future__ import annotations

from ansible_collections.livebackup.qemu.plugins.module_utils import _names
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import FORMATS, Bitmap, Disk


def marker(disk: Disk) -> Bitmap | None:
    """The marker of the disk, nearest to the guest; one that is inconsistent (QEMU was killed) counts too.

    One on a backing node also counts: after a snapshot taken by others the disk is still tracked, else it
    would drop out of all backups unnoticed.
    """
    found = [bitmap for bitmap in disk.bitmaps if bitmap.name == _names.MARKER]
    order = (disk.node, *disk.chain)
    return min(found, key=lambda bitmap: order.index(bitmap.node), default=None)


def is_tracked(disk: Disk) -> bool:
    """Whether backups take this disk."""
    return marker(disk) is not None


def granularity(disk: Disk) -> int:
    """Granularity in bytes for a new checkpoint bitmap."""
    found = marker(disk)
    return found.granularity if found else 65536


def checkpoints(disk: Disk) -> dict[str, Bitmap]:
    """Checkpoint bitmaps of the node the guest writes to, by restore point."""
    points = {_names.point_of(bitmap.name): bitmap for bitmap in disk.on_top()}
    return {point: bitmap for point, bitmap in points.items() if point}


def sources(disk: Disk, point: str) -> list[Bitmap]:
    """All bitmaps whose union is "written since this point", nearest to the guest first.

    libvirt's snapshots create an empty namesake on the new overlay, so the top one alone may be incomplete.
    """
    name = _names.checkpoint(point)
    order = (disk.node, *disk.chain)
    return sorted(
        (bitmap for bitmap in disk.bitmaps if bitmap.name == name),
        key=lambda bitmap: order.index(bitmap.node),
    )


def is_healthy(disk: Disk, point: str) -> bool:
    """Whether the union of ``sources`` is complete: on top and recording, and none of it damaged."""
    top = disk.find(_names.checkpoint(point))
    return (
        top is not None
        and top.recording
        and not top.busy
        and not any(bitmap.inconsistent for bitmap in sources(disk, point))
    )


def dirty_bytes(disk: Disk, point: str) -> int:
    """Bytes written since a point; with backing bitmaps an upper bound, since they may overlap."""
    return min(disk.virtual_size, sum(bitmap.dirty_bytes for bitmap in sources(disk, point)))


def is_supported(disk: Disk) -> bool:
    """Whether a backup can read this disk and put its filter over it."""
    return disk.format in FORMATS and not disk.read_only and disk.device is not None
