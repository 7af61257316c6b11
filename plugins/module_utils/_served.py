# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A storage daemon that holds the qcow2 images of a restore. For internal use of livebackup.qemu only."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import (
    _bitmaps,
    _credentials,
    _ends,
    _names,
    _stopped,
    _storage_daemon,
    _transactions,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import CommandRefused, RestoreError
from ansible_collections.livebackup.qemu.plugins.module_utils._plan import DiskPlan
from ansible_collections.livebackup.qemu.plugins.module_utils._qmp import Monitor
from ansible_collections.livebackup.qemu.plugins.module_utils._restored_image import ServedImage
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Disk

# as _stopped calls the first disk of a VM
_TARGET = "disk-0"
_BASIS = "basis"


@dataclass
class Served:
    """The image that is written and the older copy, if there is one. Make it with ``served``."""

    target: ServedImage
    basis: ServedImage | None
    _monitor: Monitor
    _vm: str
    _disk: str

    async def finish(self, point: str | None) -> None:
        """Close the image, with bitmaps that go on from ``point``, if there is one. Raises MonitorError."""
        await self._monitor.execute("block-export-del", {"id": _TARGET, "mode": "hard"})
        if point is not None:
            await _track(self._monitor, await self._inspect(), point)
        await self._monitor.execute("blockdev-del", {"node-name": _TARGET})

    async def forget_bitmaps(self) -> None:
        """Remove what an earlier run may have put there, which would record what this one writes."""
        found = (await self._inspect()).bitmaps
        await self._monitor.transaction([_transactions.bitmap_remove(_TARGET, each.name) for each in found])

    async def _inspect(self) -> Disk:
        disk = _stopped.StoppedDisk(self._disk, self.target.path, "qcow2")
        vm = await _stopped.inspect(self._monitor, _stopped.StoppedVm(self._vm, (disk,)))
        return vm.disk(self._disk)


async def _track(monitor: Monitor, disk: Disk, point: str) -> None:
    """An empty checkpoint of the point with its end, and the marker: as a backup leaves them."""
    plan = DiskPlan(disk, 0, point)
    size = _bitmaps.granularity(disk)
    await monitor.transaction(
        [
            _transactions.bitmap_add(
                disk.node, _names.MARKER, granularity=size, persistent=True, disabled=True
            ),
            _transactions.bitmap_add(disk.node, _names.checkpoint(point), granularity=size, persistent=True),
        ]
    )
    if disk.virtual_size:
        await _ends.attach_disk(monitor, plan)
        await _ends.place_disk(monitor, plan)


@contextlib.asynccontextmanager
async def served(vm: str, disk: str, path: str, basis: str | None) -> AsyncIterator[Served]:
    """Hold the qcow2 image at ``path`` for writing, and the one at ``basis`` for reading.

    QAPI: blockdev-add, nbd-server-start, block-export-add. Raises MonitorError, RestoreError,
    DependencyError.
    """
    daemon = await _storage_daemon.start(vm)
    try:
        with _credentials.private_directory() as directory:
            socket = os.path.join(directory, "nbd.sock")
            address = {"type": "unix", "data": {"path": socket}}
            await daemon.monitor.execute("nbd-server-start", {"addr": address})
            await _serve(daemon.monitor, _TARGET, path, writable=True)
            if basis is not None:
                await _serve(daemon.monitor, _BASIS, basis, writable=False)
            older = ServedImage(basis, socket, _BASIS) if basis is not None else None
            yield Served(ServedImage(path, socket, _TARGET), older, daemon.monitor, vm, disk)
    finally:
        await daemon.end()


async def _serve(monitor: Monitor, node: str, path: str, *, writable: bool) -> None:
    unmap: dict[str, Any] = {"discard": "unmap", "read-only": not writable}
    file = {"driver": "file", "filename": path, **unmap}
    try:
        await monitor.execute("blockdev-add", {"driver": "qcow2", "node-name": node, "file": file, **unmap})
    except CommandRefused as error:
        raise RestoreError(
            f"The image {path} cannot be opened: {error.facts['reason'].rstrip('.')}; see whether it is "
            "whole, or restore without delta.",
            path=path,
        ) from error
    export = {"type": "nbd", "id": node, "node-name": node, "name": node, "writable": writable}
    await monitor.execute("block-export-add", export)
