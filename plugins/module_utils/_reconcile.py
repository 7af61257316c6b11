# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finishing what a session left on a VM; commit and abort alike. For internal use of livebackup.qemu only.

Nothing is remembered: everything follows from the names on the VM and from the receiver's verdict on the
checkpoint bitmaps. It may be run at any time, any number of times, by anybody who holds the QMP connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import (
    _bitmaps,
    _discovery,
    _faultpoints,
    _graph,
    _names,
    _pause,
    _report,
    _scratch,
    _transactions,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    AgentError,
    LivebackupError,
    ReceiverRefused,
    TransferError,
    VmOwned,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._qmp import Monitor
from ansible_collections.livebackup.qemu.plugins.module_utils._receiver import Receiver
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Disk, Vm

JOB_END_TIMEOUT = 20.0
OPEN_STATES = ("joining", "preparing", "stopping", "cutting", "transferring", "sealing")

# disk name -> {"keep": point or None, "remove": [points]}
Verdict = dict[str, dict[str, Any]]


async def settle_all(
    monitors: list[Monitor], receiver: Receiver, host: str, *, given_up: str | None = None
) -> tuple[list[str], list[str]]:
    """Settle the VMs of a host by the receiver's verdict, each as far as possible.

    Returns the names of the checkpoint bitmaps removed, and what went wrong. Without a verdict the checkpoint
    bitmaps stay; the next run asks again.
    """
    vms = await asyncio.gather(*map(_discovery.inspect, monitors), return_exceptions=True)
    found: dict[str, Verdict] = {}
    problems: list[str] = []
    if monitors:
        try:
            alive = [vm for vm in vms if isinstance(vm, Vm)]
            found = await asyncio.to_thread(verdicts, receiver, host, alive)
            _faultpoints.reached("participant.judged")
        except LivebackupError as error:
            problems.append(error.message)
    settling = (settle(monitor, found.get(monitor.vm, {}), given_up) for monitor in monitors)
    removed: list[str] = []
    for result in await asyncio.gather(*settling, return_exceptions=True):
        if isinstance(result, LivebackupError):
            problems.append(f"{result.message} The next backup of this VM finishes the clean-up.")
        elif isinstance(result, BaseException):
            raise result
        else:
            removed += result
    return sorted(set(removed)), problems


async def settle(monitor: Monitor, verdict: Verdict, given_up: str | None = None) -> list[str]:
    """Bring a VM to rest and return the names of the checkpoint bitmaps removed.

    In this order: resume and thaw it if we paused it; end our jobs; remove our nodes, descriptors and
    credentials; remove the frozen bitmaps and the checkpoints of the verdict; remove the session's claim.
    Raises MonitorError, TransferError, and AgentError for a guest that stays frozen, after all else is done.
    """
    frozen = await _resume(monitor)
    vm = await release(monitor)
    removed = removals(vm, verdict, given_up)
    await monitor.transaction([_transactions.bitmap_remove(node, name) for node, name in removed])
    _faultpoints.reached("participant.checkpoints-removed")
    await renew_markers(monitor, vm)
    for name in vm.objects:
        if _names.session_of(name):
            await monitor.unless_refused("object-del", {"id": name})
    _faultpoints.reached("participant.settled")
    if frozen:
        raise frozen
    return sorted({name for dummy, name in removed if _names.point_of(name)})


async def _resume(monitor: Monitor) -> AgentError | None:
    vm = await _discovery.inspect(monitor)
    try:
        await _pause.resume_leftover(monitor, vm.objects, vm.agent_path)
    except AgentError as error:
        return error
    return None


async def release(monitor: Monitor) -> Vm:
    """Remove jobs, nodes, descriptors and credentials of ours; return the VM as it is then.

    Raises MonitorError.
    """
    vm = await _discovery.inspect(monitor)
    await _end_jobs(monitor, vm)
    _faultpoints.reached("participant.jobs-ended")
    await _remove_nodes(monitor, await _discovery.inspect(monitor))
    _faultpoints.reached("participant.nodes-removed")
    await _scratch.remove_fds(monitor)
    for index in range(len(vm.disks)):
        for name in (_names.fd(index), _names.sink_fd(index)):
            await monitor.unless_refused("closefd", {"fdname": name})
    if _names.PSK in vm.objects:
        await monitor.execute("object-del", {"id": _names.PSK})
    _faultpoints.reached("participant.credentials-removed")
    return await _discovery.inspect(monitor)


def removals(vm: Vm, verdict: Verdict, given_up: str | None = None) -> list[tuple[str, str]]:
    """(node, bitmap) to remove: frozen copies, what the verdict names, a point given up, and end bitmaps
    whose checkpoint is gone. Pure.

    Only from nodes the guest writes to; a backing node is read-only and keeps its bitmaps.
    """
    found = []
    for disk in vm.disks:
        points = [*verdict.get(disk.name, {}).get("remove", []), *filter(None, [given_up])]
        wanted = {_names.FROZEN, *map(_names.checkpoint, points)}
        staying = _bitmaps.checkpoints(disk).keys() - set(points)
        ends = (_names.ended_point_of(bitmap.name) for bitmap in disk.on_top())
        wanted |= {_names.end(point) for point in ends if point and point not in staying}
        found += [(disk.node, bitmap.name) for bitmap in disk.on_top() if bitmap.name in wanted]
    return found


async def renew_markers(monitor: Monitor, vm: Vm) -> None:
    """Replace markers that a killed QEMU left inconsistent: they can only be removed. Put one on top of a
    snapshot as well: its backing node may be merged away, and the disk would drop out of all backups.
    """
    for disk in vm.disks:
        if disk.read_only or not lacks_marker(disk):
            continue
        if disk.find(_names.MARKER):
            await monitor.transaction([_transactions.bitmap_remove(disk.node, _names.MARKER)])
        size = _bitmaps.granularity(disk)
        add = _transactions.bitmap_add(
            disk.node, _names.MARKER, granularity=size, persistent=disk.can_persist, disabled=True
        )
        await monitor.transaction([add])


def lacks_marker(disk: Disk) -> bool:
    """Whether a disk that is backed up has no sound marker on the node the guest writes to. Pure.

    A checkpoint alone is left when a snapshot's backing file, with the marker, was streamed into it.
    """
    marker = disk.find(_names.MARKER)
    tracked = _bitmaps.is_tracked(disk) or bool(_bitmaps.checkpoints(disk))
    return tracked and (marker is None or marker.inconsistent)


async def _end_jobs(monitor: Monitor, vm: Vm) -> None:
    jobs = [job for job in vm.jobs if job["id"].startswith(_names.PREFIX)]
    running = [job["id"] for job in jobs if job["status"] != "concluded"]
    if running:
        # a cancelled job still waits for the answers of a receiver that may hang
        for node in vm.nodes:
            if _names.node_kind(node) in ("nbd", "sink"):
                await monitor.unless_refused(
                    "yank", {"instances": [{"type": "block-node", "node-name": node}]}
                )
        for job in running:
            await monitor.unless_refused("job-cancel", {"id": job})
        await _wait_concluded(monitor, running)
    for job in jobs:
        await monitor.unless_refused("job-dismiss", {"id": job["id"]})


async def _wait_concluded(monitor: Monitor, jobs: list[str]) -> None:
    deadline = time.monotonic() + JOB_END_TIMEOUT
    while True:
        listed = await monitor.execute("query-jobs")
        running = [job["id"] for job in listed if job["id"] in jobs and job["status"] != "concluded"]
        if not running:
            return
        if time.monotonic() > deadline:
            raise TransferError(
                f"VM {monitor.vm}: its backup job {running[0]} cannot be cancelled; stop the "
                f"receiver's storage daemon, then run the backup again.",
                vm=monitor.vm,
            )
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(monitor.job_event(), 0.5)


async def _remove_nodes(monitor: Monitor, vm: Vm) -> None:
    ours = [(kind, node) for node in vm.nodes for kind in [_names.node_kind(node)] if kind]
    for wanted in ("snap", "cbw", "tmp", "nbd", "sink", "bits", "last", "zero", "end"):
        for kind, node in ours:
            if kind == wanted:
                await _unplug(monitor, vm, node)
                await monitor.execute("blockdev-del", {"node-name": node})


async def _unplug(monitor: Monitor, vm: Vm, node: str) -> None:
    """Point the devices on a filter of ours to what is below it now (perhaps a snapshot taken meanwhile)."""
    for device in _graph.devices_on(vm, node):
        below = _graph.child(vm.edges, node, "file")
        await monitor.execute("qom-set", {"path": device, "property": "drive", "value": below})


def verdicts(receiver: Receiver, host: str, vms: list[Vm]) -> dict[str, Verdict]:
    """The receiver's keep and remove lists by VM (``POST /reconcile``). Raises ReceiverError."""
    answer = receiver.post("/reconcile", _report.reconcile_request(host, vms))
    return {vm["vm"]: {disk["disk"]: disk for disk in vm["disks"]} for vm in answer["vms"]}


def refuse_owned(receiver: Receiver, vm: Vm, session: str) -> None:
    """Raise VmOwned if another session that is still open claims this VM. Raises ReceiverError."""
    if vm.session in (None, session):
        return
    try:
        owner: dict[str, Any] = receiver.get(f"/sessions/{vm.session}")
    except ReceiverRefused as error:
        if error.status == 404:
            return
        raise
    if owner["state"] in OPEN_STATES:
        raise VmOwned(
            f"VM {vm.name} belongs to the open session {vm.session} of group {owner['group']}; wait for "
            f"its end or abort it with livebackup.qemu.session.",
            vm=vm.name,
            session=vm.session,
        )
