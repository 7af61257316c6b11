# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The end bitmaps of new checkpoints; _bitmaps says what they are for.

For internal use of livebackup.qemu only.

A single bit cannot be set from outside. So a node that stores nothing is made as large as the disk, its last
sector is written, and its bitmap is merged into one on the disk. That happens after the cut, while the filter
forbids resizing the disk: a checkpoint never lacks its end bitmap when its point is committed.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import (
    _bitmaps,
    _discovery,
    _names,
    _transactions,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import DiskBusy, TransferError
from ansible_collections.livebackup.qemu.plugins.module_utils._member import Member
from ansible_collections.livebackup.qemu.plugins.module_utils._plan import DiskPlan
from ansible_collections.livebackup.qemu.plugins.module_utils._qmp import Monitor
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Bitmap

SECTOR = 512
_POLL_SECONDS = 0.01
_JOB_SECONDS = 20.0


async def attach(member: Member) -> None:
    """Make the nodes whose last sector is dirty, while the VM runs.

    QAPI: blockdev-add, block-dirty-bitmap-add, blockdev-backup, query-jobs, job-dismiss, blockdev-del.
    Raises MonitorError, TransferError.
    """
    for plan in member.plans:
        if plan.disk.virtual_size:
            await attach_disk(member.monitor, plan)


async def attach_disk(monitor: Monitor, plan: DiskPlan) -> None:
    """Make the node of one disk, whose size is not 0."""
    node, last, zero = (_names.node(kind, plan.index) for kind in ("end", "last", "zero"))
    await monitor.execute("blockdev-add", _null(node, plan.disk.virtual_size))
    granularity = _bitmaps.granularity(plan.disk)
    await monitor.transaction([_transactions.bitmap_add(node, _names.END, granularity=granularity)])
    await monitor.execute("blockdev-add", _null(zero, SECTOR))
    slice_ = {"driver": "raw", "node-name": last, "file": node, "size": SECTOR}
    await monitor.execute("blockdev-add", {**slice_, "offset": plan.disk.virtual_size - SECTOR})
    job = _names.end_job(plan.index)
    options = {"job-id": job, "device": zero, "target": last, "sync": "full", "auto-dismiss": False}
    await monitor.execute("blockdev-backup", options)
    await _wait_concluded(monitor, job)
    for each in (last, zero):
        await monitor.execute("blockdev-del", {"node-name": each})


def _null(node: str, size: int) -> dict[str, Any]:
    return {"driver": "null-co", "node-name": node, "size": size, "read-zeroes": True}


async def _wait_concluded(monitor: Monitor, job: str) -> None:
    deadline, state = time.monotonic() + _JOB_SECONDS, {"status": "created"}
    while state["status"] != "concluded" and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_SECONDS)
        (state,) = (each for each in await monitor.execute("query-jobs") if each["id"] == job)
    if state["status"] != "concluded" or "error" in state:
        raise TransferError(
            f"VM {monitor.vm}: the job {job}, which copies one sector to nowhere, did not succeed: "
            f"{state.get('error', state['status'])}; repeat the backup.",
            vm=monitor.vm,
        )
    await monitor.execute("job-dismiss", {"id": job})


async def place(member: Member) -> None:
    """Put the end bitmaps of the new checkpoints on the disks, after the cut.

    QAPI: query-named-block-nodes, transaction, blockdev-del. Raises DiskBusy if a disk was made smaller
    between plan and cut, MonitorError.
    """
    nodes = {
        node["node-name"]: node
        for node in await member.monitor.execute("query-named-block-nodes", {"flat": True})
    }
    for plan in member.plans:
        require_unshrunk(member.name, plan, nodes)
        if plan.disk.virtual_size:
            await place_disk(member.monitor, plan)


async def place_disk(monitor: Monitor, plan: DiskPlan) -> None:
    """Put the end bitmap of one disk on it and remove the node."""
    source, name = _names.node("end", plan.index), _names.end(plan.point)
    add = _transactions.bitmap_add(
        plan.disk.node,
        name,
        granularity=_bitmaps.granularity(plan.disk),
        persistent=plan.disk.can_persist,
        disabled=True,
    )
    merge = _transactions.bitmap_merge(plan.disk.node, name, [Bitmap(source, _names.END)])
    await monitor.transaction([add, merge])
    await monitor.execute("blockdev-del", {"node-name": source})


def require_unshrunk(vm: str, plan: DiskPlan, nodes: dict[str, Any]) -> None:
    """Raise DiskBusy if an end bitmap that the plan relied on has lost its bit since. Pure."""
    for end in _bitmaps.ends(plan.disk, plan.parent) if plan.parent else ():
        now = _discovery.bitmaps_of(nodes.get(end.node, {}), end.node)
        if not any(bitmap.name == end.name and bitmap.dirty_bytes for bitmap in now):
            raise DiskBusy(
                f"VM {vm}: disk {plan.disk.name} was made smaller during the backup, so its bitmap is "
                f"incomplete; repeat the backup.",
                vm=vm,
                disk=plan.disk.name,
            )
