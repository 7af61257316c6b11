# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""QMP commands and transaction actions as data: pure builders. For internal use of livebackup.qemu only."""

from __future__ import annotations

from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _bitmaps, _names
from ansible_collections.livebackup.qemu.plugins.module_utils._plan import DiskPlan
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Bitmap

Action = dict[str, Any]

# QEMU 7.2 computes nanoseconds in 32 bits: 5 seconds and more overflow.
CBW_TIMEOUTS = range(1, 5)


def bitmap_add(
    node: str, name: str, *, granularity: int, persistent: bool = False, disabled: bool = False
) -> Action:
    """Action ``block-dirty-bitmap-add``."""
    data: dict[str, Any] = {"node": node, "name": name, "granularity": granularity}
    if persistent:
        data["persistent"] = True
    if disabled:
        data["disabled"] = True
    return {"type": "block-dirty-bitmap-add", "data": data}


def bitmap_remove(node: str, name: str) -> Action:
    """Action ``block-dirty-bitmap-remove``."""
    return {"type": "block-dirty-bitmap-remove", "data": {"node": node, "name": name}}


def bitmap_merge(node: str, target: str, merged: list[Bitmap]) -> Action:
    """Action ``block-dirty-bitmap-merge``. Raises ValueError for an empty list: QEMU 7.2 segfaults on it."""
    if not merged:
        raise ValueError("block-dirty-bitmap-merge needs at least one source")
    bitmaps = [{"node": bitmap.node, "name": bitmap.name} for bitmap in merged]
    return {"type": "block-dirty-bitmap-merge", "data": {"node": node, "target": target, "bitmaps": bitmaps}}


# Before QEMU 8.0, snapshot-access takes a request that begins with clusters kept in the scratch image and
# ends with others for one to the disk itself (hbitmap_status() of QEMU 7.2 answers false there): what the
# guest has written or erased since the cut gets into the point. A request of one cluster is answered rightly.
CLUSTERWISE = {"max-chunk": 65536}


def start_checkpoints(plans: list[DiskPlan]) -> list[Action]:
    """First transaction of the cut: the new checkpoint bitmaps, and frozen copies of the old ones."""
    return [action for plan in plans for action in (_start_checkpoint(plan), *_freeze(plan))]


def _start_checkpoint(plan: DiskPlan) -> Action:
    return bitmap_add(
        plan.disk.node,
        _names.checkpoint(plan.point),
        granularity=_bitmaps.granularity(plan.disk),
        persistent=plan.disk.can_persist,
    )


def _freeze(plan: DiskPlan) -> list[Action]:
    if plan.parent is None or plan.compared:
        return []
    merged = _bitmaps.sources(plan.disk, plan.parent)
    node, size = plan.disk.node, merged[0].granularity
    # cutting off less than one granule would not show in the end bitmap, so that granule is always copied
    merged += _bitmaps.ends(plan.disk, plan.parent)
    return [
        bitmap_add(node, _names.FROZEN, granularity=size, disabled=True),
        bitmap_merge(node, _names.FROZEN, merged),
    ]


def hand_over_frozen(plans: list[DiskPlan]) -> list[Action]:
    """Second transaction of the cut: move the copies to the nodes that the jobs read, where they must be."""
    actions = []
    for plan in plans:
        if plan.parent is not None and not plan.at_rest and not plan.compared:
            snapshot = _names.node("snap", plan.index)
            frozen = Bitmap(node=plan.disk.node, name=_names.FROZEN)
            size = _bitmaps.sources(plan.disk, plan.parent)[0].granularity
            actions += [
                bitmap_add(snapshot, _names.FROZEN, granularity=size, disabled=True),
                bitmap_merge(snapshot, _names.FROZEN, [frozen]),
                bitmap_remove(plan.disk.node, _names.FROZEN),
            ]
    return actions


def filter_node(plan: DiskPlan, cbw_timeout: int) -> dict[str, Any]:
    """``blockdev-add`` arguments of the copy-before-write filter: a full or slow scratch image breaks the
    snapshot after ``cbw_timeout`` seconds and never the guest's write. Raises ValueError outside 1..4.
    """
    if cbw_timeout not in CBW_TIMEOUTS:
        raise ValueError(f"cbw-timeout {cbw_timeout} is not in 1..4")
    options: dict[str, Any] = {
        "driver": "copy-before-write",
        "node-name": _names.node("cbw", plan.index),
        "file": plan.disk.node,
        "target": _names.node("tmp", plan.index),
        "on-cbw-error": "break-snapshot",
        "cbw-timeout": cbw_timeout,
    }
    if plan.incremental:
        options["bitmap"] = {"node": plan.disk.node, "name": _names.FROZEN}
    return options


def snapshot_node(plan: DiskPlan) -> dict[str, Any]:
    """``blockdev-add`` arguments of the node that shows the disk as it was at the cut."""
    return {
        "driver": "snapshot-access",
        "node-name": _names.node("snap", plan.index),
        "file": _names.node("cbw", plan.index),
    }


def scratch_node(index: int, fdset: int) -> dict[str, Any]:
    """``blockdev-add`` arguments of the scratch image passed as a file descriptor set."""
    # what it holds is worthless after a crash, so it need never be flushed
    cache = {"no-flush": True}
    return {
        "driver": "qcow2",
        "node-name": _names.node("tmp", index),
        "discard": "unmap",
        "cache": cache,
        "file": {"driver": "file", "filename": f"/dev/fdset/{fdset}", "discard": "unmap", "cache": cache},
    }


def receiver_node(plan: DiskPlan) -> dict[str, Any]:
    """``blockdev-add`` arguments of the NBD client on a passed socket.

    There is no reconnect: a restarted server may have lost acknowledged data.
    """
    return {
        "driver": "nbd",
        "node-name": _names.node("nbd", plan.index),
        "export": plan.export,
        "server": {"type": "fd", "str": _names.fd(plan.index)},
        "tls-creds": _names.PSK,
        "open-timeout": 3,
        "reconnect-delay": 0,
    }


def backup_job(plan: DiskPlan, speed: int) -> dict[str, Any]:
    """``blockdev-backup`` arguments; ``speed`` in bytes per second, 0 for no limit.

    The job stays until it is dismissed, so that its outcome can be read.
    """
    options: dict[str, Any] = {
        "job-id": _names.job(plan.index),
        "device": plan.source,
        "target": _names.node("nbd", plan.index),
        "sync": "full",
        "speed": speed,
        "auto-dismiss": False,
        **({} if plan.at_rest else {"x-perf": CLUSTERWISE}),
    }
    if plan.parent is not None:
        options.update({"sync": "bitmap", "bitmap": _names.FROZEN, "bitmap-mode": "never"})
    return options


def sink_node(plan: DiskPlan) -> dict[str, Any]:
    """``blockdev-add`` arguments of the NBD client of the process that compares."""
    return {
        "driver": "nbd",
        "node-name": _names.node("sink", plan.index),
        "server": {"type": "fd", "str": _names.sink_fd(plan.index)},
        "open-timeout": 3,
        "reconnect-delay": 0,
    }


def reading_job(plan: DiskPlan, speed: int) -> dict[str, Any]:
    """``blockdev-backup`` arguments of the job that reads the frozen disk to compare it."""
    return {
        "job-id": _names.reading(plan.index),
        "device": _names.node("snap", plan.index),
        "target": _names.node("sink", plan.index),
        "sync": "full",
        "speed": speed,
        "auto-dismiss": False,
        "x-perf": CLUSTERWISE,
    }


def bits_node(plan: DiskPlan, fdset: int) -> dict[str, Any]:
    """``blockdev-add`` arguments of an image passed as descriptor set, of which only the bitmap counts."""
    return {
        "driver": "qcow2",
        "node-name": _names.node("bits", plan.index),
        "read-only": True,
        "file": {"driver": "file", "filename": f"/dev/fdset/{fdset}", "read-only": True},
    }
