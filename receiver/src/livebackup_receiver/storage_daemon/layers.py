# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The qcow2 layers that a storage daemon writes and reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livebackup_receiver.storage_daemon.process import StorageDaemon

# The unit in which QEMU copies changes; smaller clusters would store no less, larger ones more.
CLUSTER_SIZE = 65536


@dataclass(frozen=True)
class NewLayer:
    """A layer to be made; ``parent`` lies in the same directory, so that a chain can be moved."""

    path: Path
    virtual_size: int
    parent: Path | None


async def create_layer(daemon: StorageDaemon, node: str, layer: NewLayer) -> None:
    """Make the file (``blockdev-create``) and open it for writing as a node, its chain below it.

    :raise StorageDaemonFailed: the file cannot be made, or a parent cannot be opened
    """
    file = _file_node(node)
    await daemon.run_job(
        "blockdev-create", {"options": {"driver": "file", "filename": str(layer.path), "size": 0}}
    )
    await daemon.execute("blockdev-add", _file(file, layer.path, writable=True))
    await daemon.run_job("blockdev-create", {"options": _qcow2_format(file, layer)})
    await daemon.execute("blockdev-add", _qcow2(node, file, layer))


async def open_layer(daemon: StorageDaemon, node: str, path: Path) -> None:
    """Open a sealed layer and its chain for reading.

    :raise StorageDaemonFailed: it, or a layer below it, cannot be opened
    """
    await daemon.execute("blockdev-add", _file(_file_node(node), path, writable=False))
    await daemon.execute(
        "blockdev-add", {"driver": "qcow2", "node-name": node, "file": _file_node(node), "read-only": True}
    )


async def close_layer(daemon: StorageDaemon, node: str) -> None:
    """Close a node; what the daemon still holds of it is written."""
    await daemon.execute("blockdev-del", {"node-name": node})
    await daemon.execute("blockdev-del", {"node-name": _file_node(node)})


def _file_node(node: str) -> str:
    return f"{node}-file"


def _file(node: str, path: Path, *, writable: bool) -> dict[str, Any]:
    common = {"driver": "file", "node-name": node, "filename": str(path)}
    return common | ({"discard": "unmap"} if writable else {"read-only": True})


def _qcow2_format(file: str, layer: NewLayer) -> dict[str, Any]:
    options = {
        "driver": "qcow2",
        "file": file,
        "size": layer.virtual_size,
        "version": "v3",
        "cluster-size": CLUSTER_SIZE,
    }
    if layer.parent:
        options |= {"backing-file": layer.parent.name, "backing-fmt": "qcow2"}
    return options


def _qcow2(node: str, file: str, layer: NewLayer) -> dict[str, Any]:
    # Zeros that are sent become zero clusters, which take no space.
    options = {
        "driver": "qcow2",
        "node-name": node,
        "file": file,
        "discard": "unmap",
        "detect-zeroes": "unmap",
    }
    return options if layer.parent else options | {"backing": None}
