# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decisions about dirty bitmaps: pure functions over data. For internal use of livebackup.qemu only.

A checkpoint bitmap ``livebackup:<point>`` is enabled for its whole life and never cleared. The marker
``livebackup:tracked`` is disabled and never used: its name alone says that the disk is backed up, and its
granularity is the one checkpoint bitmaps get.

No bitmap records that a disk was made smaller and grew again, although that empties what was cut off. So
each checkpoint has an end bitmap ``livebackup:end:<point>``: disabled, with only the bit of the disk's last
bytes at the point. QEMU cuts bitmaps off with the disk and lets them grow clean, so the bit is there for
exactly as long as nothing of the disk has been cut off since.
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


def ends(disk: Disk, point: str) -> list[Bitmap]:
    """The end bitmaps of a checkpoint, on the disk or a backing node, that we made; namesakes made by a
    snapshot record, or are empty.
    """
    name = _names.end(point)
    found = (bitmap for bitmap in disk.bitmaps if bitmap.name == name)
    return [bitmap for bitmap in found if bitmap.dirty_bytes and not bitmap.recording]


def fault(disk: Disk, point: str) -> str | None:
    """Why the union of ``sources`` is incomplete: ``inconsistent``, ``shrunk`` or ``snapshot``, else None.

    From the guest down, every node must have the checkpoint until the one it was made on, which is the one
    with its end bitmap. A snapshot taken by others may leave a node without; merging one away may take the
    lower part along.
    """
    with_checkpoint = {bitmap.node for bitmap in sources(disk, point)}
    if disk.node in with_checkpoint and not is_healthy(disk, point):
        return "inconsistent"
    made_on = {bitmap.node for bitmap in ends(disk, point)}
    # QEMU does not merge bitmaps of different sizes, so a snapshot that grew is as one without namesakes
    sizes = {disk.virtual_size, None}
    other_size = {bitmap.node for bitmap in sources(disk, point) if bitmap.node_size not in sizes}
    for node in (disk.node, *disk.chain):
        if node not in with_checkpoint or node in other_size:
            return "snapshot"
        if node in made_on:
            return None
    proofs = [bitmap for bitmap in disk.bitmaps if bitmap.name == _names.end(point) and not bitmap.recording]
    return "shrunk" if any(not proof.dirty_bytes for proof in proofs) else "snapshot"


def growth_unit(disk: Disk) -> int | None:
    """As ``_graph.growth_unit``, but 1 if the last granule, which is always copied, covers a cluster."""
    ended = [bitmap.granularity for bitmap in disk.bitmaps if _names.ended_point_of(bitmap.name)]
    if disk.growth_unit is None or disk.growth_unit > min([granularity(disk), *ended]):
        return disk.growth_unit
    return 1


def points(disk: Disk) -> list[str]:
    """The restore points with a checkpoint bitmap on the disk or a backing node, oldest first."""
    return sorted({point for bitmap in disk.bitmaps for point in [_names.point_of(bitmap.name)] if point})


def dirty_bytes(disk: Disk, point: str) -> int:
    """Bytes written since a point; with backing bitmaps an upper bound, since they may overlap."""
    return min(disk.virtual_size, sum(bitmap.dirty_bytes for bitmap in sources(disk, point)))


def is_supported(disk: Disk) -> bool:
    """Whether a backup can read this disk and put its filter over it."""
    return disk.format in FORMATS and not disk.read_only and disk.device is not None
