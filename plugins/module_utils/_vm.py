# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What we know of a VM, as data. For internal use of livebackup.qemu only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _names
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import DiskUnknown

# Formats whose content at the device is what the image means, without secrets of the host.
FORMATS = ("qcow2", "raw")

# instead of a QAPI RunState: there is no QEMU
NOT_RUNNING = "not-running"

# QAPI RunState -> why no backup may start in it; a state that is not here is fine.
FORBIDDEN_STATES = {
    "inmigrate": "it waits for an incoming migration",
    "finish-migrate": "its migration is finishing",
    "postmigrate": "it has been migrated away",
    "colo": "it runs in COLO mode",
    "save-vm": "its state is being saved",
    "restore-vm": "its state is being restored",
    "internal-error": "QEMU met an internal error",
    "io-error": "it is paused by an I/O error",
}


@dataclass(frozen=True)
class Bitmap:
    """A dirty bitmap on one node (QAPI BlockDirtyInfo); sizes in bytes, ``node_size`` None if unknown."""

    node: str
    name: str
    granularity: int = 65536
    dirty_bytes: int = 0
    persistent: bool = True
    recording: bool = True
    inconsistent: bool = False
    busy: bool = False
    node_size: int | None = None


@dataclass(frozen=True)
class Disk:
    """A disk of a VM.

    ``node`` is the format node, found through a filter of ours if one is in place; ``chain`` are the nodes of
    its backing files, nearest first; ``bitmaps`` are those of all of these nodes. ``allocated_bytes`` is what
    the image takes on the host, None if that is not the whole disk. ``growth_unit``: see
    _graph.growth_unit.
    """

    name: str
    node: str
    format: str
    virtual_size: int
    device: str | None = None
    file: str = ""
    allocated_bytes: int | None = None
    read_only: bool = False
    can_persist: bool = True
    growth_unit: int | None = 1
    chain: tuple[str, ...] = ()
    bitmaps: tuple[Bitmap, ...] = ()

    def on_top(self) -> tuple[Bitmap, ...]:
        """The bitmaps of the node the guest writes to."""
        return tuple(bitmap for bitmap in self.bitmaps if bitmap.node == self.node)

    def find(self, name: str) -> Bitmap | None:
        """The bitmap of this name on the node the guest writes to."""
        return next((bitmap for bitmap in self.on_top() if bitmap.name == name), None)


@dataclass(frozen=True)
class Vm:
    """A VM as it was when it was inspected; ``agent_path`` is the guest agent's socket on this host."""

    name: str
    socket: str
    status: str = "running"
    qemu_version: str = ""
    capabilities: frozenset[str] = frozenset()
    disks: tuple[Disk, ...] = ()
    agent_path: str | None = None
    objects: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    jobs: tuple[dict[str, Any], ...] = ()
    # (parent, edge name, child) of QEMU's block graph
    edges: tuple[tuple[str, str, str], ...] = ()
    job_nodes: frozenset[str] = frozenset()
    # device path -> the node it reads and writes
    roots: dict[str, str] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """Whether its CPUs run."""
        return self.status == "running"

    @property
    def session(self) -> str | None:
        """The session that claims this VM, open or long dead."""
        return next(filter(None, map(_names.session_of, self.objects)), None)

    def disk(self, name: str) -> Disk:
        """The disk of this name; raises DiskUnknown."""
        for disk in self.disks:
            if disk.name == name:
                return disk
        names = ", ".join(disk.name for disk in self.disks) or "none"
        raise DiskUnknown(
            f"VM {self.name} has no disk {name}; its disks are: {names}.", vm=self.name, disk=name
        )
