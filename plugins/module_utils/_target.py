# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which disks are restored to which files. For internal use of livebackup.qemu only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _images, _partial, _sidecar
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    DiskUnknown,
    FileExists,
    FormatOther,
    OptionError,
    RestoreError,
    VmUnknown,
)


@dataclass(frozen=True)
class Target:
    """One disk (API: PointDisk) and the file it goes to; ``current`` says that the file already holds it."""

    disk: dict[str, Any]
    path: str
    format: str
    origin: dict[str, Any]
    exists: bool
    current: bool

    @property
    def name(self) -> str:
        """The disk's name."""
        found: str = self.disk["disk"]
        return found

    @property
    def virtual_size(self) -> int:
        """The disk's size in bytes."""
        found: int = self.disk["virtual_size"]
        return found

    @property
    def directory(self) -> str:
        """Where the file is."""
        return os.path.dirname(self.path)

    @property
    def partial(self) -> str:
        """Where the image is written before it gets its name."""
        return _partial.path_for(self.path)

    @property
    def point_tracked(self) -> str | None:
        """The point from which the file's bitmap goes on."""
        return self.origin["point"] if self.origin["tracked"] else None


def vm_of(point: dict[str, Any], name: str) -> dict[str, Any]:
    """The VM's part of a point. Raises VmUnknown. Pure."""
    vms: list[dict[str, Any]] = point["vms"]
    for vm in vms:
        if vm["vm"] == name:
            return vm
    names = ", ".join(vm["vm"] for vm in point["vms"])
    raise VmUnknown(f"The restore point {point['id']} holds no VM {name}; it holds: {names}.", vm=name)


def targets_of(params: dict[str, Any], vm: dict[str, Any]) -> list[Target]:
    """What to restore where. Raises DiskUnknown; OptionError if a place is missing, or named twice."""
    held = {disk["disk"]: disk for disk in vm["disks"]}
    chosen = list(dict.fromkeys(params["disks"] or held))
    for name in [*chosen, *(params["paths"] or {})]:
        if name not in held:
            raise DiskUnknown(
                f"The restore point {params['point']} holds no disk {name} of VM {vm['vm']}; it holds: "
                f"{', '.join(held)}.",
                vm=vm["vm"],
                disk=name,
            )
    targets = [_target(params, held[name]) for name in chosen]
    for target in targets:
        others = [other.name for other in targets if other.path == target.path and other != target]
        if others:
            raise OptionError(
                f"The disks {target.name} and {others[0]} would both be written to {target.path}; give each "
                "a path of its own.",
                path=target.path,
            )
    return targets


def _target(params: dict[str, Any], disk: dict[str, Any]) -> Target:
    name, image_format = disk["disk"], params["format"]
    path = os.path.realpath(_place(params, name))
    if not os.path.isdir(os.path.dirname(path)):
        raise OptionError(
            f"The directory {os.path.dirname(path)} does not exist on this host; create it first.",
            dest=os.path.dirname(path),
        )
    origin = _sidecar.origin(
        point=params["point"],
        vm=params["vm"],
        disk=name,
        image_format=image_format,
        tracked=params["track"] and image_format == "qcow2",
    )
    return Target(disk, path, image_format, origin, os.path.lexists(path), _sidecar.still_holds(path, origin))


def _place(params: dict[str, Any], disk: str) -> str:
    if disk in (params["paths"] or {}):
        return str(params["paths"][disk])
    if params["dest"] is None:
        raise OptionError(
            f"Nothing says where disk {disk} is to be restored to; set dest, give it a path in paths, or "
            "leave it out of disks.",
            disk=disk,
        )
    return os.path.join(params["dest"], f"{disk}.{params['format']}")


def refuse_unsafe(target: Target, *, force: bool, delta: bool) -> None:
    """Raise what forbids to replace the file that is there: FileExists, FormatOther, RestoreError."""
    if not target.exists:
        return
    if not os.path.isfile(target.path):
        raise RestoreError(
            f"{target.path} is no file, and only files are restored to; give the path of a file.",
            path=target.path,
        )
    if not force:
        raise FileExists(
            f"The file {target.path} exists and is not what this task would restore; remove it, restore to "
            "another directory, or set force to true to replace it.",
            path=target.path,
        )
    if delta and _images.is_qcow2(target.path) != (target.format == "qcow2"):
        found = "raw" if target.format == "qcow2" else "qcow2"
        raise FormatOther(
            f"The file {target.path} is {found}, and with delta it must be {target.format} like what is "
            f"restored; set format to {found}, or leave delta out.",
            path=target.path,
            format=found,
        )
