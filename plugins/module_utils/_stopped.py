# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""VMs that do not run: their images are read by a storage daemon. For internal use of livebackup.qemu only.

Nobody writes, so there is no filter, no scratch image and no pause; all else is as for a running VM. The
images are open, and locked against the start of the VM, three times for a short while: while they are put in
order at the beginning and at the end, and from ``prepared`` to ``transferred``.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import (
    _bitmaps,
    _credentials,
    _discovery,
    _graph,
    _names,
    _plan,
    _reconcile,
    _storage_daemon,
    _suitability,
    _transactions,
    _transfer,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    CommandRefused,
    DiskBusy,
    ImageInUse,
    LivebackupError,
    OptionError,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._member import Member, Members
from ansible_collections.livebackup.qemu.plugins.module_utils._pause import NoPause
from ansible_collections.livebackup.qemu.plugins.module_utils._qmp import Monitor
from ansible_collections.livebackup.qemu.plugins.module_utils._receiver import Receiver
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import FORMATS, NOT_RUNNING, Vm

ARGUMENTS: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "options": {
        "name": {"type": "str", "required": True},
        "disks": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "file": {"type": "path", "required": True},
                "format": {"type": "str", "choices": list(FORMATS), "default": "qcow2"},
            },
        },
    },
}


@dataclass(frozen=True)
class StoppedDisk:
    """A disk as the running VM would show it: ``name`` is that of its restore points."""

    name: str
    file: str
    format: str


@dataclass(frozen=True)
class StoppedVm:
    """A VM that has no QEMU just now."""

    name: str
    disks: tuple[StoppedDisk, ...]


def named(params: dict[str, Any]) -> list[StoppedVm]:
    """The VMs of the option ``stopped_vms``. Raises OptionError for a name given twice."""
    found = [
        StoppedVm(each["name"], tuple(StoppedDisk(**disk) for disk in each["disks"]))
        for each in params.get("stopped_vms") or ()
    ]
    for names in ([vm.name for vm in found], *([disk.name for disk in vm.disks] for vm in found)):
        for name in names:
            if names.count(name) > 1:
                raise OptionError(f"stopped_vms names {name} twice; give each name once.", name=name)
    return found


@contextlib.asynccontextmanager
async def opened(stopped: StoppedVm, *, read_only: bool = False) -> AsyncIterator[Monitor]:
    """A storage daemon with the disks of a VM, for as long as the block runs.

    Raises ImageInUse, MonitorError, DependencyError, ProgramFailed.
    """
    daemon = await _storage_daemon.start(stopped.name)
    try:
        await _open_disks(daemon.monitor, stopped, read_only)
        yield daemon.monitor
    finally:
        await daemon.end()


async def _open_disks(monitor: Monitor, stopped: StoppedVm, read_only: bool = False) -> None:
    # one after the other, and not as arguments: a daemon that refuses its arguments stores no bitmaps
    for index, disk in enumerate(stopped.disks):
        node = {"driver": disk.format, "node-name": _node(index), "read-only": read_only}
        try:
            await monitor.execute("blockdev-add", {**node, "file": _file(disk)})
        except CommandRefused as error:
            if "lock" in error.facts["reason"]:
                raise ImageInUse(
                    f"VM {stopped.name}: the image {disk.file} of disk {disk.name} is in use by another "
                    f"process; if the VM runs, let qmp_sockets find it, else repeat the backup later.",
                    vm=stopped.name,
                    disk=disk.name,
                    file=disk.file,
                ) from error
            raise
    for disk in (await inspect(monitor, stopped)).disks:
        if not disk.can_persist and not read_only:
            # it cannot have kept its marker, but it was named
            size = _bitmaps.granularity(disk)
            add = _transactions.bitmap_add(disk.node, _names.MARKER, granularity=size, disabled=True)
            await monitor.transaction([add])


def _node(index: int) -> str:
    return f"disk-{index}"


def _file(disk: StoppedDisk) -> dict[str, Any]:
    try:
        is_device = stat.S_ISBLK(os.stat(disk.file).st_mode)
    except OSError as error:
        raise OptionError(
            f"The image {disk.file} of disk {disk.name} cannot be used: {error.strerror}; correct "
            f"stopped_vms.",
            file=disk.file,
        ) from error
    return {"driver": "host_device" if is_device else "file", "filename": disk.file}


async def inspect(monitor: Monitor, stopped: StoppedVm) -> Vm:
    """The VM as its images show it.

    QAPI: query-named-block-nodes, x-debug-query-block-graph, query-version.
    """
    nodes = await monitor.execute("query-named-block-nodes", {"flat": True})
    version = (await monitor.execute("query-version"))["qemu"]
    edges = _graph.edges_of(await monitor.execute("x-debug-query-block-graph"))
    blocks = [
        {
            "qdev": disk.name,
            "removable": False,
            "inserted": {"node-name": _node(index)},
        }
        for index, disk in enumerate(stopped.disks)
    ]
    return Vm(
        name=stopped.name,
        socket="",
        status=NOT_RUNNING,
        qemu_version=f"{version['major']}.{version['minor']}.{version['micro']}",
        disks=_discovery.disks_of(stopped.name, blocks, nodes, edges),
        edges=edges,
        nodes=tuple(node["node-name"] for node in nodes),
    )


async def join(stopped: StoppedVm, receiver: Receiver, host: str) -> tuple[Member, Vm]:
    """Put the images in order and check them; return the VM also as it was before.

    Raises ImageInUse, NotTracked, DiskUnsupported, ReceiverError, MonitorError.
    """
    async with opened(stopped) as monitor:
        before, _removed = await _settle(monitor, stopped, receiver, host)
        vm = await inspect(monitor, stopped)
    _suitability.check_tracked(vm)
    return Member(monitor, vm, NoPause(), stopped=stopped), before


async def _settle(
    monitor: Monitor, stopped: StoppedVm, receiver: Receiver, host: str, given_up: str | None = None
) -> tuple[Vm, list[str]]:
    vm = await inspect(monitor, stopped)
    verdicts = await asyncio.to_thread(_reconcile.verdicts, receiver, host, [vm])
    removed = _reconcile.removals(vm, verdicts.get(vm.name, {}), given_up)
    await monitor.transaction([_transactions.bitmap_remove(node, name) for node, name in removed])
    await _reconcile.renew_markers(monitor, vm)
    return vm, [name for dummy, name in removed if _names.point_of(name)]


async def attach(member: Member, plan: dict[str, Any], carrier: _transfer.Carrier) -> None:
    """Start the daemon that carries the data, connected to the receiver.

    Raises ImageInUse, DiskBusy, NotTracked, ReceiverUnreachable, MonitorError, ProgramFailed.
    """
    plans = _plan.disk_plans(member.vm, plan)
    arguments: list[str] = []
    for each in plans:
        channel = await _transfer.connect(member, each, carrier)
        server = {"type": "fd", "str": str(channel.fileno())}
        arguments += ["--blockdev", json.dumps({**_transactions.receiver_node(each), "server": server})]
        channel.expect()
    with _credentials.key_directory(carrier.transport) as directory:
        psk = json.dumps(_credentials.credentials(carrier.transport, _names.PSK, directory))
        fds = [channel.fileno() for channel in member.channels.values()]
        member.daemon = await _storage_daemon.start(member.name, ["--object", psk, *arguments], fds)
    for channel in member.channels.values():
        channel.rest()
    member.monitor = member.daemon.monitor
    try:
        await _open_planned(member, plan)
    except BaseException:
        await member.daemon.end()
        raise


async def _open_planned(member: Member, plan: dict[str, Any]) -> None:
    before = {disk.name: disk for disk in member.vm.disks}
    await _open_disks(member.monitor, member.stopped)
    member.vm = await inspect(member.monitor, member.stopped)
    member.plans = [dataclasses.replace(each, at_rest=True) for each in _plan.disk_plans(member.vm, plan)]
    for each in member.plans:
        if each.disk.virtual_size != before[each.disk.name].virtual_size:
            raise DiskBusy(
                f"VM {member.name}: disk {each.disk.name} was resized during the backup; repeat the backup.",
                vm=member.name,
                disk=each.disk.name,
            )


async def detach(member: Member) -> None:
    """All data has been sent: flush it, and give the images free. Raises MonitorError."""
    for plan in member.plans:
        await member.monitor.execute("job-dismiss", {"id": _names.job(plan.index)})
        await member.monitor.execute("blockdev-del", {"node-name": _names.node("nbd", plan.index)})
    await member.daemon.end()
    for channel in member.channels.values():
        channel.close()
    member.channels.clear()


async def end_failed(members: Members) -> None:
    """Give the images of VMs that were left out free at once, and not at the end of the session."""
    for member, _error in members.failed:
        if member.daemon:
            await member.daemon.end()


async def put_in_order(
    members: list[Member], receiver: Receiver, host: str, given_up: str | None = None
) -> tuple[list[str], list[str]]:
    """End the daemons and settle the images, each as far as possible; as ``_reconcile.settle_all``."""
    removed: list[str] = []
    problems: list[str] = []
    for member in members:
        if member.daemon:
            await member.daemon.end()
        try:
            async with opened(member.stopped) as monitor:
                removed += (await _settle(monitor, member.stopped, receiver, host, given_up))[1]
        except LivebackupError as error:
            problems.append(f"{error.message} The next backup of this VM finishes the clean-up.")
    return removed, problems
