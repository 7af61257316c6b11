# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which checkpoint bitmaps a VM keeps and which it removes; pure.

The verdict needs only the names on the disk and the committed points, so it is the same after any
crash of any side:

======================= ========================================= =================
bitmaps on the disk     meaning                                   verdict
======================= ========================================= =================
newest committed only   clean                                     keep it
and one never committed crash before the commit                   remove that one
two committed ones      crash between commit and finish           remove the older
only an older one       the newest was lost; still complete       keep it
inconsistent            QEMU was killed                           remove it
of an open session      its participant is at work                leave it alone
======================= ========================================= =================
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from livebackup_receiver.model import Model


class SeenBitmap(Model):
    point: str
    healthy: bool


class SeenDisk(Model):
    disk: str
    virtual_size: int
    bitmaps: list[SeenBitmap]


class SeenVm(Model):
    vm: str
    disks: list[SeenDisk]


class SeenBitmaps(Model):
    """What a hypervisor finds on its VMs' disks."""

    host: str
    vms: list[SeenVm]


class DiskVerdict(Model):
    """Points whose bitmaps stay and go; a bitmap in neither belongs to an open session."""

    disk: str
    keep: str | None
    remove: list[str]


class VmVerdict(Model):
    vm: str
    disks: list[DiskVerdict]


class Verdict(Model):
    vms: list[VmVerdict]


def judge_disk(
    disk: SeenDisk, *, committed: AbstractSet[str], open_sessions: AbstractSet[str]
) -> DiskVerdict:
    """Keep the newest healthy bitmap of a committed point of this disk; remove all others.

    :param committed: the committed points that have this disk
    :param open_sessions: the sessions still running, whose bitmaps are theirs
    """
    owned = [bitmap for bitmap in disk.bitmaps if bitmap.point not in open_sessions]
    good = [bitmap.point for bitmap in owned if bitmap.healthy and bitmap.point in committed]
    keep = max(good, default=None)
    return DiskVerdict(disk=disk.disk, keep=keep, remove=sorted(b.point for b in owned if b.point != keep))
