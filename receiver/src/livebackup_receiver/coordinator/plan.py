# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which level each disk is backed up at, and why; pure.

A disk is incremental when it carries a healthy checkpoint bitmap of a committed point whose layer
is there: that bitmap has recorded every write since. Without such a bitmap, or when the layers below are
damaged, it is a resync if the digests of its head are there and its host can compare with them. Anything
else is a full backup. The reason is one that a person understands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from livebackup_receiver.coordinator.reports import BitmapFault, BitmapReport, DiskReport, VmReport
from livebackup_receiver.errors import BodyInvalid, FormatUnsupported, NoTrackedDisk, NoVms
from livebackup_receiver.model import Level, Transfer
from livebackup_receiver.store.paths import check_name

FORMATS = ("qcow2", "raw")
FAULTS = {
    BitmapFault.INCONSISTENT: "bitmap of point {point} is inconsistent after an unclean stop of the VM",
    BitmapFault.SHRUNK: "the disk was made smaller since point {point}, so its bitmap is incomplete",
    BitmapFault.SNAPSHOT: (
        "an external snapshot was taken or merged since point {point}, so its bitmap is incomplete"
    ),
}


@dataclass(frozen=True)
class Ancestor:
    """A committed point of one disk.

    :param present: its layer is in the store, and its chain can be opened as far as that is known
    :param undigested: why its digest tables cannot be compared with; None: they can
    :param dropped: retention keeps it no longer, so nothing can lie on it, even while its layer is there
    :param damaged: a layer that it is read from is not what it was; None: none is known to be
    """

    point: str
    virtual_size: int
    present: bool
    undigested: str | None = None
    dropped: bool = False
    damaged: str | None = None


@dataclass(frozen=True)
class Decision:
    """The level of a disk.

    :param bitmap: the one whose writes an incremental carries
    :param head: the point that a resync compares with
    """

    level: Level
    reason: str
    bitmap: BitmapReport | None = None
    head: str | None = None

    @property
    def parent(self) -> str | None:
        return self.bitmap.point if self.bitmap else self.head


@dataclass(frozen=True)
class Comparison:
    """Whether a host can compare a disk with digests; ``lacks`` says what is missing if not."""

    able: bool = False
    lacks: str | None = None


def check_reports(host: str, reports: Sequence[VmReport]) -> None:
    """Refuse what cannot be backed up.

    :raise NoVms: there is no VM
    :raise NoTrackedDisk: a VM without a tracked disk
    :raise FormatUnsupported: a tracked disk of a format without reliable bitmaps
    :raise NameInvalid: a name that cannot be a directory
    :raise BodyInvalid: a VM, or a disk of one, is reported twice
    """
    if not reports:
        raise NoVms(host)
    _require_distinct("facts.vms", "VM", [report.vm for report in reports])
    for report in reports:
        check_name("VM", report.vm)
        if not report.tracked_disks:
            raise NoTrackedDisk(report.vm)
        _require_distinct(f"VM {report.vm}", "disk", [disk.disk for disk in report.tracked_disks])
        for disk in report.tracked_disks:
            _check_disk(report.vm, disk)


def decide(
    disk: DiskReport, ancestors: Sequence[Ancestor], comparison: Comparison = Comparison()
) -> Decision:
    """The level of one disk.

    :param ancestors: every committed point of this disk
    """
    if not ancestors:
        return Decision(Level.FULL, "first backup of this disk")
    known = {ancestor.point: ancestor for ancestor in ancestors}
    # a bitmap of no committed point, left by an aborted session, explains nothing if there are others
    bitmaps = sorted(disk.bitmaps, key=lambda bitmap: (bitmap.point in known, bitmap.point), reverse=True)
    obstacles = []
    for bitmap in bitmaps:
        obstacle = _obstacle(disk, bitmap, known)
        if obstacle is None:
            return Decision(Level.INCREMENTAL, _changes(disk, known[bitmap.point]), bitmap)
        obstacles.append(obstacle)
    obstacle = obstacles[0] if obstacles else "no bitmap of a committed point on the disk"
    return _without_bitmap(disk, ancestors, comparison, obstacle)


def _without_bitmap(
    disk: DiskReport, ancestors: Sequence[Ancestor], comparison: Comparison, obstacle: str
) -> Decision:
    usable = [each for each in ancestors if each.present and not each.dropped]
    head = max(usable, key=lambda each: each.point, default=None)
    if head is None or not (comparison.able or comparison.lacks):
        return Decision(Level.FULL, obstacle)
    if hindrance := _hindrance(disk, head, comparison):
        return Decision(Level.FULL, f"{obstacle}; {hindrance}")
    return Decision(
        Level.RESYNC, f"{obstacle}; only what differs from point {head.point} is sent", head=head.point
    )


def _hindrance(disk: DiskReport, head: Ancestor, comparison: Comparison) -> str | None:
    """Why a disk cannot be compared with its head, if it cannot."""
    if disk.virtual_size < head.virtual_size:
        return f"it is smaller than at point {head.point}, so it cannot be compared with that"
    if not comparison.able:
        return f"its host cannot compare it with point {head.point}: {comparison.lacks}"
    if head.undigested:
        return f"it cannot be compared with point {head.point}: {head.undigested}"
    return None


def plan_host(
    host: str, reports: Sequence[VmReport], ancestors: Mapping[tuple[str, str], Sequence[Ancestor]]
) -> list[Transfer]:
    """The transfers of one host's tracked disks.

    :param ancestors: for each VM and disk its committed points
    """
    return [transfer for report in reports for transfer in _plan_vm(host, report, ancestors)]


def _plan_vm(
    host: str, report: VmReport, ancestors: Mapping[tuple[str, str], Sequence[Ancestor]]
) -> list[Transfer]:
    known = {disk.disk: ancestors.get((report.vm, disk.disk), ()) for disk in report.disks}
    comparison = Comparison(report.can_resync, report.resync_lacks)
    remark = ("; the VM was not running" if report.stopped else "") + _dropped(report, known)
    return [
        _transfer(host, report.vm, disk, decide(disk, known[disk.disk], comparison), remark)
        for disk in report.tracked_disks
    ]


def _dropped(report: VmReport, known: Mapping[str, Sequence[Ancestor]]) -> str:
    """What to say of disks that the VM's newest point holds and this one will not, though they are there."""
    last = {name: max(each.point for each in points) for name, points in known.items() if points}
    newest = max(last.values(), default=None)
    gone = [disk.disk for disk in report.disks if not disk.tracked and last.get(disk.disk, "") == newest]
    return "".join(
        f"; disk {name} of the VM, which point {newest} holds, is no longer tracked" for name in gone
    )


def _require_distinct(where: str, kind: str, names: Sequence[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise BodyInvalid(where, f"{kind} {name} is reported {times} times")


def _check_disk(vm: str, disk: DiskReport) -> None:
    check_name("disk", disk.disk)
    if disk.format not in FORMATS:
        raise FormatUnsupported(vm, disk.disk, disk.format)


def _obstacle(disk: DiskReport, bitmap: BitmapReport, known: Mapping[str, Ancestor]) -> str | None:
    ancestor = known.get(bitmap.point)
    if ancestor is None or ancestor.dropped:
        return f"point {bitmap.point} no longer exists"
    if not bitmap.healthy:
        return FAULTS[bitmap.fault or BitmapFault.INCONSISTENT].format(point=bitmap.point)
    if ancestor.damaged:
        return ancestor.damaged
    if not ancestor.present:
        return f"the layer of point {bitmap.point} is missing in the store"
    return _resize(disk, ancestor)


def _resize(disk: DiskReport, ancestor: Ancestor) -> str | None:
    """What is cut off now is not in the bitmap; nor is new area that shows old data.

    Newer points say nothing: they may lie on another branch, which this disk has left by a restore. A healthy
    bitmap has not been cut off in between, which its end bitmap proves.
    """
    before, after = ancestor.virtual_size, disk.virtual_size
    if after < before:
        return f"size changed from {before} to {after} bytes"
    if after > before and (disk.growth_unit is None or before % disk.growth_unit):
        return f"the disk grew from {before} to {after} bytes and its new area may hold old data"
    return None


def _changes(disk: DiskReport, parent: Ancestor) -> str:
    reason = f"changes since point {parent.point}"
    if disk.virtual_size == parent.virtual_size:
        return reason
    return f"{reason}; the disk grew from {parent.virtual_size} to {disk.virtual_size} bytes"


def _transfer(host: str, vm: str, disk: DiskReport, decision: Decision, remark: str) -> Transfer:
    return Transfer(
        vm=vm,
        disk=disk.disk,
        host=host,
        level=decision.level,
        level_reason=decision.reason + remark,
        parent=decision.parent,
        virtual_size=disk.virtual_size,
        dirty_bytes=decision.bitmap.dirty_bytes if decision.bitmap else None,
    )
