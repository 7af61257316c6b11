# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finding out what differs from the head where no bitmap knows. For internal use of livebackup.qemu only.

The frozen disk is read on this host, by QEMU itself, into a process that compares it with the digests of the
head. What is not proven to be the same becomes the frozen bitmap that an incremental backup would have had.
QEMU's own NBD server is no way to read it: in QEMU 7.2 it aborts the VM if the disk is in an iothread.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import urllib.parse

from ansible_collections.livebackup.qemu.plugins.module_utils import (
    _bits,
    _discovery,
    _heads,
    _names,
    _sink,
    _transactions,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._channel import Channel
from ansible_collections.livebackup.qemu.plugins.module_utils._compare_plugin import CLUSTER_BYTES
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    CommandRefused,
    ComparisonFailed,
    LivebackupError,
    SnapshotBroken,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._plan import DiskPlan
from ansible_collections.livebackup.qemu.plugins.module_utils._qmp import Monitor
from ansible_collections.livebackup.qemu.plugins.module_utils._receiver import Receiver
from ansible_collections.livebackup.qemu.plugins.module_utils._watchdog import Watchdog

_POLL_SECONDS = 0.5


class Reading:
    """The comparison of one disk. ``attach`` before the cut, ``start`` after it, ``result`` when done."""

    def __init__(self, monitor: Monitor, plan: DiskPlan, directory: str) -> None:
        self.done_bytes = 0
        self.differing_bytes = 0
        self._monitor = monitor
        self._plan = plan
        self._directory = directory
        self._sink = _sink.Sink(plan.disk.virtual_size, directory)
        self._task: asyncio.Task[None] | None = None
        self._stop = threading.Event()

    async def attach(self, channels: list[Channel], watchdog: Watchdog) -> None:
        """Start the process that compares and hand QEMU the socket to it.

        QAPI: getfd. Raises DependencyError, MonitorError.
        """
        await self._sink.start()
        channel = self._sink.channel
        channels.append(channel)
        watchdog.hold(channel.fileno())
        watchdog.take_along(self._sink.pid)
        self._monitor.send_fd(channel.fileno())
        await self._monitor.execute("getfd", {"fdname": _names.sink_fd(self._plan.index)})

    def start(self, receiver: Receiver, path: str, speed: int) -> None:
        """Begin; ``path`` is where the receiver has the digests, ``speed`` in bytes per second."""
        self._task = asyncio.ensure_future(self._compare(receiver, path, speed))

    @property
    def ended(self) -> bool:
        """Whether ``result`` has something to say."""
        return self._task is not None and self._task.done()

    def result(self) -> None:
        """Nothing if the frozen bitmap is there. Raises what went wrong."""
        if self._task is not None:
            self._task.result()

    async def close(self) -> None:
        """Give up or clear up; repeating it is harmless."""
        self._stop.set()
        self._sink.channel.shut()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._task
        await self._sink.close()

    async def _compare(self, receiver: Receiver, path: str, speed: int) -> None:
        try:
            await self._find_out(receiver, path, speed)
        except OSError as error:
            raise self._failure(error.strerror or str(error)) from error

    async def _find_out(self, receiver: Receiver, path: str, speed: int) -> None:
        sink = self._sink
        await asyncio.to_thread(_heads.fetch, receiver, path, sink.digests, sink.clusters, self._stop)
        await self._read(speed)
        changed = await asyncio.to_thread(lambda: list(sink.changed()))
        await sink.close()
        self.differing_bytes = sum(length for dummy, length in changed)
        await self._mark(changed)

    async def _read(self, speed: int) -> None:
        """Let QEMU push the frozen disk to the end. QAPI: job-dismiss, blockdev-del."""
        try:
            await self._begin_reading(speed)
            await self._wait_read()
        finally:
            self._sink.channel.rest()
        await self._monitor.execute("job-dismiss", {"id": _names.reading(self._plan.index)})
        await self._monitor.execute("blockdev-del", {"node-name": _names.node("sink", self._plan.index)})

    async def _begin_reading(self, speed: int) -> None:
        """QAPI: blockdev-add, blockdev-backup."""
        try:
            await self._sink.wait_ready()
            self._sink.channel.expect()
            await self._monitor.execute("blockdev-add", _transactions.sink_node(self._plan))
            await self._monitor.execute("blockdev-backup", _transactions.reading_job(self._plan, speed))
        except (ComparisonFailed, CommandRefused) as error:
            raise self._failure(error.message) from error

    async def _wait_read(self) -> None:
        while True:
            jobs = {job["id"]: job for job in await self._monitor.execute("query-jobs")}
            job = jobs.get(_names.reading(self._plan.index))
            if job is None or job.get("error"):
                raise self._failure("its job was dismissed" if job is None else job["error"])
            self.done_bytes = job["current-progress"]
            if job["status"] == "concluded":
                return
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._monitor.job_event(), _POLL_SECONDS)

    def _failure(self, reason: str) -> LivebackupError:
        return failure(self._monitor.vm, self._plan.disk.name, reason, self._sink.channel.stalled)

    async def _mark(self, changed: list[tuple[int, int]]) -> None:
        """Make the frozen bitmap. QAPI: block-dirty-bitmap-add."""
        monitor, plan = self._monitor, self._plan
        snapshot = _names.node("snap", plan.index)
        frozen = _transactions.bitmap_add(snapshot, _names.FROZEN, granularity=CLUSTER_BYTES, disabled=True)
        await monitor.transaction([frozen])
        if changed:
            await _bits.merge(monitor, plan, self._directory, changed)
        await self._require_marked(snapshot, sum(-(-length // CLUSTER_BYTES) for dummy, length in changed))

    async def _require_marked(self, snapshot: str, clusters: int) -> None:
        """Only the outcome tells whether all of qemu-io's commands have worked."""
        nodes = await self._monitor.execute("query-named-block-nodes", {"flat": True})
        found = next(node for node in nodes if node["node-name"] == snapshot)
        dirty = _discovery.bitmaps_of(found, "")[0].dirty_bytes
        if dirty != clusters * CLUSTER_BYTES:
            raise self._failure(
                f"its bitmap has {dirty} bytes instead of {clusters * CLUSTER_BYTES} after the comparison"
            )


def failure(vm: str, disk: str, reason: str, stalled: bool) -> LivebackupError:
    """Put what went wrong into words. Pure."""
    facts = {"vm": vm, "disk": disk, "reason": reason}
    if stalled:
        return ComparisonFailed(
            f"VM {vm}: the comparison of disk {disk} was ended because nothing moved for too long; check the "
            "load of this host and its disks.",
            **facts,
        )
    if "Permission denied" in reason:
        return SnapshotBroken(
            f"VM {vm}: the snapshot of disk {disk} broke because its scratch image was full or too "
            f"slow; give scratch_dir more room or a faster file system.",
            **facts,
        )
    return ComparisonFailed(
        f"VM {vm}: disk {disk} could not be compared with its last point: {reason.rstrip('.')}; repeat the "
        "backup, and if it fails again, remove nbdkit from this host, so that the disk is sent in full.",
        **facts,
    )


def digests_path(session: str, host: str, vm: str, disk: str) -> str:
    """Where the receiver's API has the digests of a disk's head."""
    names = (urllib.parse.quote(name, safe="") for name in (session, host, vm, disk))
    return "/sessions/{}/participants/{}/digests/{}/{}".format(*names)
