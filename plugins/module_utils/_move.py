# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""From an overlay to a disk that needs nothing else, while the VM runs or not.

For internal use of livebackup.qemu only.

QEMU's block-stream drops the backing file's name at its end and before the tables that make up for it are
durable; a kill in between would leave a disk of zeros. So the job waits when all is copied, the tables are
flushed, and only then is it let go. Where QEMU's monitor cannot flush, in a storage daemon, the job is
cancelled there, the image closed, and the name taken off by qemu-img.

A running VM dismisses its jobs itself. A stream that has ended and is not dismissed keeps its filter, without
any child, and QEMU 7.2 dies when anybody asks for query-named-block-nodes then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import (
    _discovery,
    _graph,
    _image_lock,
    _images,
    _names,
    _overlay,
    _storage_daemon,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    CommandRefused,
    DiskBusy,
    DiskUnknown,
    FileInUse,
    RestoreError,
    SpaceShort,
    VmOwned,
    VmUnsupported,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._qmp import Monitor
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Disk, Vm

POLL_SECONDS = 0.2
# how often what has paused for want of the receiver is tried again
RETRY_SECONDS = 1.0
_STOP = "stop"


@dataclass
class Mover:
    """One disk's job; its ids are always the same, so a later run goes on with it."""

    monitor: Monitor
    disk: str
    path: str
    node: str
    index: int
    speed: int
    live: bool
    done: int = 0
    total: int = 0
    begun: bool = False
    # all is here, though the overlay may still name its backing file
    copied: bool = False
    finished: bool = False
    retried: float = 0.0

    @property
    def job(self) -> str:
        """The job's id."""
        return _names.moving_job(self.index)

    def progress(self) -> dict[str, Any]:
        """Bytes of the disk that were looked at, and what there are."""
        return {
            "disk": self.disk,
            "done_bytes": self.done,
            "total_bytes": self.total,
            "finished": self.finished,
        }

    async def step(self, status: dict[str, Any] | None) -> None:
        """Do what the job waits for.

        :param status: of QAPI ``query-jobs``; None: there is no such job
        """
        if status is None:
            await (self._ended() if self.begun else self._begin())
            return
        self.begun = True
        self.done, self.total = status["current-progress"], status["total-progress"]
        act = {"paused": self._retry, "pending": self._let_go, "concluded": self._conclude}.get(
            status["status"]
        )
        if act is not None:
            await act(status)

    async def _begin(self) -> None:
        if self.live and await _overlay.backing_of(self.path) == "":
            self.finished = True
            return
        await self.monitor.execute(
            "block-stream",
            {
                "job-id": self.job,
                "device": self.node,
                "speed": self.speed,
                "on-error": _STOP,
                "filter-node-name": _names.moving_node(self.index),
                "auto-finalize": False,
                "auto-dismiss": self.live,
            },
        )
        self.begun = True

    async def _ended(self) -> None:
        if await _overlay.backing_of(self.path) != "":
            raise RestoreError(
                f"The disk {self.path} of VM {self.monitor.vm} was not moved: its block job {self.job} was "
                "cancelled, or failed; look at the log of QEMU, and run this again.",
                path=self.path,
            )
        self.finished = True

    async def _retry(self, dummy: dict[str, Any]) -> None:
        jobs = await self.monitor.execute("query-block-jobs")
        found = next((job["io-status"] for job in jobs if job["device"] == self.job), None)
        if found == "nospace":
            raise SpaceShort(
                f"The file system of {self.path} is full, so its disk cannot be moved there; make room and "
                "run this again.",
                dest=os.path.dirname(self.path),
            )
        if time.monotonic() - self.retried > RETRY_SECONDS:
            self.retried = time.monotonic()
            await self.monitor.unless_refused("block-job-resume", {"device": self.job})

    async def _let_go(self, dummy: dict[str, Any]) -> None:
        self.copied = True
        if not self.live:
            await self.monitor.execute("job-cancel", {"id": self.job})
            return
        said = await self.monitor.execute(
            "human-monitor-command", {"command-line": f'qemu-io {self.node} "flush"'}
        )
        if said.strip():
            raise RestoreError(
                f"The disk {self.path} of VM {self.monitor.vm} cannot be flushed: {said.strip()}; look at "
                "its file system and run this again.",
                path=self.path,
            )
        _images.sync(self.path)
        await self.monitor.execute("job-finalize", {"id": self.job})

    async def _conclude(self, status: dict[str, Any]) -> None:
        await self.monitor.execute("job-dismiss", {"id": self.job})
        if not self.copied:
            error = status.get("error")
            raise RestoreError(
                f"The disk {self.path} of VM {self.monitor.vm} was not moved: {error}; run this again.",
                path=self.path,
                reason=error,
            )
        self.finished = True


async def move(params: dict[str, Any], vm: str, disks: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Move disks, each given by name and overlay; or, without ``wait``, do what can be done at once.

    Raises MonitorError, VmError, RestoreError.
    """
    if _in_use([path for dummy, path in disks]):
        async with _running(params, vm, disks) as movers:
            await _go_on(movers, params["wait"])
    else:
        async with _stopped(params, vm, disks) as movers:
            await _go_on(movers, True)
        for each in movers:
            await _overlay.drop_backing(each.path)
    for each in movers:
        if each.finished:
            _images.sync(each.path)
        if each.finished and await _overlay.backing_of(each.path) != "":
            raise RestoreError(
                f"The disk {each.path} still has a backing file after it was moved; run this again.",
                path=each.path,
            )
    return [each.progress() for each in movers]


def _in_use(paths: list[str]) -> bool:
    for path in paths:
        try:
            with _image_lock.claimed(path):
                pass
        except FileInUse:
            return True
    return False


async def _go_on(movers: list[Mover], wait: bool) -> None:
    """Until all is moved; or one round, which begins what has not begun."""
    resumed = 0.0
    while True:
        for each in movers:
            if not each.finished:
                jobs = {job["id"]: job for job in await each.monitor.execute("query-jobs")}
                await each.step(jobs.get(each.job))
        last = all(each.finished for each in movers) or not wait
        if movers[0].live and (last or time.monotonic() - resumed > RETRY_SECONDS):
            resumed = time.monotonic()
            await _resume(movers[0].monitor)
        if last:
            return
        await asyncio.sleep(POLL_SECONDS)


async def _resume(monitor: Monitor) -> None:
    """Let a VM go on that has paused for an error; we hold the monitor that the tender would use.

    Also when all is moved: where there were zeros a disk is read from the receiver until then, and nobody
    looks after the VM afterwards.
    """
    if (await monitor.execute("query-status"))["status"] == "io-error":
        await monitor.execute("cont")


@contextlib.asynccontextmanager
async def _running(
    params: dict[str, Any], name: str, disks: list[tuple[str, str]]
) -> AsyncIterator[list[Mover]]:
    async with _discovery.discovered(params["qmp_sockets"], params["qmp_timeout"]) as discovery:
        monitor = _discovery.select(discovery, [name])[0]
        await discovery.keep_only([monitor])
        vm = await _discovery.inspect(monitor)
        _refuse_session(vm)
        movers = []
        for index, (disk, path) in enumerate(disks):
            found = _disk(vm, disk, path)
            await _refuse_delicate(monitor, found)
            _refuse_busy(vm, found, _names.moving_job(index))
            movers.append(Mover(monitor, disk, path, found.node, index, params["speed"], live=True))
        yield movers


@contextlib.asynccontextmanager
async def _stopped(
    params: dict[str, Any], name: str, disks: list[tuple[str, str]]
) -> AsyncIterator[list[Mover]]:
    daemon = await _storage_daemon.start(name)
    try:
        movers = []
        for index, (disk, path) in enumerate(disks):
            if await _overlay.backing_of(path) == "":
                continue
            file = {"driver": "file", "filename": path}
            node = f"disk-{index}"
            await daemon.monitor.execute("blockdev-add", {"driver": "qcow2", "node-name": node, "file": file})
            movers.append(Mover(daemon.monitor, disk, path, node, index, params["speed"], live=False))
        yield movers
    finally:
        await daemon.end()


def _refuse_session(vm: Vm) -> None:
    if vm.session:
        raise VmOwned(
            f"VM {vm.name} is being backed up by session {vm.session}; run this again when that has ended.",
            vm=vm.name,
            session=vm.session,
        )


def _disk(vm: Vm, name: str, path: str) -> Disk:
    for disk in vm.disks:
        if os.path.realpath(disk.file) == os.path.realpath(path):
            return disk
    raise DiskUnknown(
        f"VM {vm.name} does not use the overlay {path}, though somebody has it open; start the VM with it, "
        "or correct name or qmp_sockets.",
        vm=vm.name,
        disk=name,
    )


async def _refuse_delicate(monitor: Monitor, disk: Disk) -> None:
    """Raise VmUnsupported if the guest might see an error because the receiver is gone."""
    for option in ("rerror", "werror"):
        try:
            value = await monitor.execute("qom-get", {"path": disk.device, "property": option})
        except CommandRefused:
            value = "unknown"
        if value != _STOP:
            raise VmUnsupported(
                f"VM {monitor.vm}: its disk {disk.name} has {option} {value}, so the guest could see errors "
                f"while it is moved; give its device {option}=stop, or stop the VM and move it then.",
                vm=monitor.vm,
                disk=disk.name,
            )


def _refuse_busy(vm: Vm, disk: Disk, job: str) -> None:
    others = [each for each in _graph.foreign_jobs(vm, disk) if each != job]
    if others:
        raise DiskBusy(
            f"VM {vm.name}: disk {disk.name} is in use by the block job {others[0]}; wait for its end or "
            "cancel it.",
            vm=vm.name,
            disk=disk.name,
            job=others[0],
        )
