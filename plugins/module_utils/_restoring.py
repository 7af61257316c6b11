# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writing the files of a restore, several at once. For internal use of livebackup.qemu only.

For each: claim the file that is there, bring the partial file to the wanted content, close it, make it
durable, note what it is, and give it its name. Whatever ends this in between, what was there stays as it was
or has become the new file, and the next run goes on with the partial file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import (
    _channel,
    _copy,
    _credentials,
    _image_lock,
    _images,
    _partial,
    _progress,
    _served,
    _sidecar,
    _wanted,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._channel import Channel
from ansible_collections.livebackup.qemu.plugins.module_utils._copy import Copying, Tally
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    FileExists,
    RestoreError,
    SpaceShort,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._nbd import Stopped
from ansible_collections.livebackup.qemu.plugins.module_utils._point_export import PointExport
from ansible_collections.livebackup.qemu.plugins.module_utils._receiver import Receiver
from ansible_collections.livebackup.qemu.plugins.module_utils._restored_image import RawFile
from ansible_collections.livebackup.qemu.plugins.module_utils._target import Target
from ansible_collections.livebackup.qemu.plugins.module_utils._wanted import Wanted

# more only make the disks seek
DISKS_AT_ONCE = 4


@dataclass
class Restoring:
    """The disks of one VM on their way; ``tallies`` by the names of disks."""

    receiver: Receiver
    params: dict[str, Any]
    tallies: dict[str, Tally] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _channels: list[Channel] = field(default_factory=list)

    def run(self, targets: list[Target]) -> None:
        """Write every target. Raises RestoreError, ReceiverError, MonitorError, DependencyError."""
        _credentials.sweep()
        self.tallies = {target.name: Tally() for target in targets}
        path = self.params["progress_path"]
        with (
            contextlib.ExitStack() as stack,
            _channel.watched(self._channels, self.params["stall_limit"]),
            _progress.told(path, self.params["vm"], self.tallies),
        ):
            for target in targets:
                if target.exists:
                    stack.enter_context(_image_lock.claimed(target.path))
            wanted = {each.name: stack.enter_context(self._wanted(each)) for each in targets}
            partials = {each.name: stack.enter_context(_partial.held(each.partial)) for each in targets}
            require_space(targets, wanted, partials)
            asyncio.run(self._restore_all(targets, wanted, partials))

    def _wanted(self, target: Target) -> contextlib.AbstractContextManager[Wanted]:
        params = self.params
        return _wanted.fetched(
            self.receiver, params["point"], params["vm"], target.disk, target.directory, self._stop
        )

    async def _restore_all(
        self, targets: list[Target], wanted: dict[str, Wanted], partials: dict[str, int]
    ) -> None:
        limit = asyncio.Semaphore(DISKS_AT_ONCE)

        async def restore(target: Target) -> None:
            async with limit:
                try:
                    await self._restore(target, wanted[target.name], partials[target.name])
                except BaseException:
                    self._stop.set()
                    raise

        results = await asyncio.gather(*map(restore, targets), return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        if errors:
            raise _copy.first_of(errors)

    async def _restore(self, target: Target, wanted: Wanted, descriptor: int) -> None:
        if self._stop.is_set():
            raise Stopped
        try:
            async with self._prepared(target, wanted, descriptor) as (copying, served):
                await asyncio.to_thread(copying.run)
                if served is not None:
                    await served.finish(target.point_tracked)
            await asyncio.to_thread(publish, target, descriptor)
        except OSError as error:
            raise RestoreError(
                f"The file {target.path} cannot be written: {error.strerror}; check its directory.",
                path=target.path,
            ) from error
        self.tallies[target.name].phase = "complete"

    @contextlib.asynccontextmanager
    async def _prepared(
        self, target: Target, wanted: Wanted, descriptor: int
    ) -> AsyncIterator[tuple[Copying, _served.Served | None]]:
        older = target.path if target.exists and self.params["delta"] else None
        copying = {"disk": target.name, "wanted": wanted, "stop": self._stop}
        copying |= {"tally": self.tallies[target.name]}
        with self._source(target) as source, contextlib.ExitStack() as stack:
            copying["source"] = source.connected
            if target.format == "raw":
                copying["resuming"] = _partial.prepare_raw(descriptor, wanted.size)
                basis = stack.enter_context(_raw(older)) if older else None
                image = RawFile(target.partial, descriptor, wanted.size)
                yield Copying(target=image, basis=basis, **copying), None
                return
            copying["resuming"] = await _partial.prepare_qcow2(target.partial, wanted.size)
            async with _served.served(self.params["vm"], target.name, target.partial, older) as served:
                await served.forget_bitmaps()
                yield Copying(target=served.target, basis=served.basis, **copying), served

    @contextlib.contextmanager
    def _source(self, target: Target) -> Iterator[PointExport]:
        source = PointExport(
            self.receiver,
            self.params["point"],
            self.params["vm"],
            target.name,
            channels=self._channels,
            limit=self.params["stall_limit"],
            stop=self._stop,
        )
        try:
            yield source
        finally:
            source.close()


@contextlib.contextmanager
def _raw(path: str) -> Iterator[RawFile]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield RawFile(path, descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def require_space(targets: list[Target], wanted: dict[str, Wanted], partials: dict[str, int]) -> None:
    """Raise SpaceShort if a file system has less room than its files still need."""
    needed: dict[int, int] = {}
    directories: dict[int, str] = {}
    for target in targets:
        device = os.stat(target.directory).st_dev
        there = os.fstat(partials[target.name]).st_blocks * 512
        needed[device] = needed.get(device, 0) + max(0, wanted[target.name].data_bytes - there)
        directories.setdefault(device, target.directory)
    for device, directory in directories.items():
        status = os.statvfs(directory)
        free = status.f_bavail * status.f_frsize
        if needed[device] > free:
            _forget_empty(targets, partials)
            raise SpaceShort(
                f"The file system of {directory} has {free} bytes free but the restore needs "
                f"{needed[device]}; free some space or restore to another file system.",
                dest=directory,
                free_bytes=free,
                needed_bytes=needed[device],
            )


def _forget_empty(targets: list[Target], partials: dict[str, int]) -> None:
    for target in targets:
        if os.fstat(partials[target.name]).st_size == 0:
            os.unlink(target.partial)


def publish(target: Target, descriptor: int) -> None:
    """Make the complete file durable, note what it is, and give it its name. Raises FileExists, OSError."""
    if target.exists:
        _inherit(target.path, descriptor)
    os.fsync(descriptor)
    _sidecar.write(target.path, target.origin, target.partial)
    if target.exists:
        os.rename(target.partial, target.path)
    else:
        try:
            _images.rename_to_free(target.partial, target.path)
        except FileExistsError as error:
            raise FileExists(
                f"The file {target.path} was made by somebody else meanwhile; remove it and repeat the task, "
                "which goes on where it ended.",
                path=target.path,
            ) from error
    _images.sync(target.directory)


def _inherit(path: str, descriptor: int) -> None:
    """Give the new file owner, mode, ACL and SELinux label of the one it replaces."""
    status = os.stat(path)
    os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, status.st_mode & 0o7777)
    for name in os.listxattr(path):
        # what a file system or policy forbids to copy
        with contextlib.suppress(OSError):
            os.setxattr(descriptor, name, os.getxattr(path, name))
