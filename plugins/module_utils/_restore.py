# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a restore point to files on this host. For internal use of livebackup.qemu only."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import (
    _credentials,
    _images,
    _receiver,
    _sidecar,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._credentials import Transport
from ansible_collections.livebackup.qemu.plugins.module_utils._diff import DifferenceTracker
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    DiskUnknown,
    FileExists,
    OptionError,
    ReceiverError,
    RestoreError,
    SpaceShort,
    VmUnknown,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._receiver import Receiver

_PARTIAL = ".livebackup-partial"


@dataclass(frozen=True)
class Target:
    """One disk and the file it goes to; ``current`` says that the file already holds it."""

    disk: str
    path: str
    virtual_size: int
    origin: dict[str, Any]
    exists: bool
    current: bool

    @property
    def partial(self) -> str:
        """Where the image is written before it gets its name."""
        directory, name = os.path.split(self.path)
        return os.path.join(directory, f".{name}{_PARTIAL}")


def restore(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Bring the files into the state of the point.

    Raises RestoreError, ReceiverError, VmUnknown, DiskUnknown.
    """
    with _receiver.connected(params) as receiver:
        vm = vm_of(receiver.get(f"/points/{params['point']}"), params["vm"])
        targets = targets_of(params, vm)
        due = [target for target in targets if not target.current]
        asyncio.run(_refuse_unsafe(due, params["force"]))
        if due and not check_mode:
            with exported(receiver, params, due) as exports:
                asyncio.run(_restore_all(due, exports, params["format"]))
    return result(params, targets)


def vm_of(point: dict[str, Any], name: str) -> dict[str, Any]:
    """The VM's part of a point. Raises VmUnknown. Pure."""
    vms: list[dict[str, Any]] = point["vms"]
    for vm in vms:
        if vm["vm"] == name:
            return vm
    names = ", ".join(vm["vm"] for vm in point["vms"])
    raise VmUnknown(f"The restore point {point['id']} holds no VM {name}; it holds: {names}.", vm=name)


def targets_of(params: dict[str, Any], vm: dict[str, Any]) -> list[Target]:
    """What to restore where. Raises DiskUnknown, OptionError if the directory is missing."""
    if not os.path.isdir(params["dest"]):
        raise OptionError(
            f"The directory {params['dest']} does not exist on this host; create it first.",
            dest=params["dest"],
        )
    sizes = {disk["disk"]: disk["virtual_size"] for disk in vm["disks"]}
    for name in params["disks"] or []:
        if name not in sizes:
            raise DiskUnknown(
                f"The restore point {params['point']} holds no disk {name} of VM {vm['vm']}; it holds: "
                f"{', '.join(sizes)}.",
                vm=vm["vm"],
                disk=name,
            )
    return [_target(params, disk, sizes[disk]) for disk in params["disks"] or sizes]


def _target(params: dict[str, Any], disk: str, virtual_size: int) -> Target:
    path = os.path.join(os.path.realpath(params["dest"]), f"{disk}.{params['format']}")
    origin = _sidecar.origin(point=params["point"], vm=params["vm"], disk=disk, image_format=params["format"])
    return Target(disk, path, virtual_size, origin, os.path.lexists(path), _sidecar.still_holds(path, origin))


async def _refuse_unsafe(targets: list[Target], force: bool) -> None:
    for target in targets:
        if target.exists:
            await _images.refuse_in_use(target.path)
        if target.exists and not force:
            raise FileExists(
                f"The file {target.path} exists and is not what this task would restore; remove it, restore "
                "to another directory, or set force to true to replace it.",
                path=target.path,
            )


@contextlib.contextmanager
def exported(receiver: Receiver, params: dict[str, Any], targets: list[Target]) -> Iterator[dict[str, Any]]:
    """Have the receiver export the disks read-only; yields the Export of each disk. Raises ReceiverError."""
    body = {"vm": params["vm"], "disks": [target.disk for target in targets]}
    answer = receiver.post(f"/points/{params['point']}/exports", body, idempotent=False)
    transport = Transport.from_api(receiver.host, answer["transport"])
    try:
        with _credentials.key_directory(transport) as directory:
            yield {
                disk["disk"]: _images.Export(disk["export"], transport, directory) for disk in answer["disks"]
            }
    finally:
        # an export nobody uses expires by itself
        with contextlib.suppress(ReceiverError):
            receiver.delete(f"/exports/{answer['id']}")


async def _restore_all(targets: list[Target], exports: dict[str, _images.Export], image_format: str) -> None:
    await _require_space(targets, exports, image_format)
    for target in targets:
        await _restore_one(target, exports[target.disk], image_format)


async def _require_space(
    targets: list[Target], exports: dict[str, _images.Export], image_format: str
) -> None:
    needed = sum([await _images.measure(exports[target.disk], image_format) for target in targets])
    directory = os.path.dirname(targets[0].path)
    status = os.statvfs(directory)
    free = status.f_bavail * status.f_frsize
    if needed > free:
        raise SpaceShort(
            f"The file system of {directory} has {free} bytes free but the restore needs {needed}; free "
            "some space or restore to another file system.",
            dest=directory,
            free_bytes=free,
            needed_bytes=needed,
        )


async def _restore_one(target: Target, export: _images.Export, image_format: str) -> None:
    """Write beside the target, then give it its name: what was there stays until the new file is durable."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(target.partial)
    try:
        os.close(os.open(target.partial, os.O_CREAT | os.O_EXCL, 0o600))
        await _images.convert(export, image_format, target.partial)
        # it may have been opened while we were copying
        await _refuse_unsafe([target], force=True)
        _inherit(target)
        _sidecar.remove(target.path)
        os.rename(target.partial, target.path)
    except OSError as error:
        raise RestoreError(
            f"The file {target.path} cannot be written: {error.strerror}; check its directory.",
            path=target.path,
        ) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target.partial)
    _images.sync(os.path.dirname(target.path))
    _sidecar.write(target.path, target.origin)


def _inherit(target: Target) -> None:
    """Give the new file the owner and mode of the one it replaces."""
    if target.exists:
        status = os.stat(target.path)
        os.chown(target.partial, status.st_uid, status.st_gid)
        os.chmod(target.partial, status.st_mode & 0o7777)


def result(params: dict[str, Any], targets: list[Target]) -> dict[str, Any]:
    """What the module returns, in check mode too. Pure."""
    tracker = DifferenceTracker()
    for target in targets:
        before = target.origin if target.current else "another file" if target.exists else "absent"
        tracker.compare(target.path, before, target.origin)
    files = [
        {
            "disk": target.disk,
            "path": target.path,
            "format": params["format"],
            "virtual_size": target.virtual_size,
            "changed": not target.current,
        }
        for target in targets
    ]
    return {
        "changed": tracker.changed,
        "diff": tracker.diff(),
        "point": params["point"],
        "vm": params["vm"],
        "files": files,
    }
