# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The qcow2 layers that a storage daemon writes and reads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livebackup_receiver.chain.blank import write_blank
from livebackup_receiver.chain.keyring import current
from livebackup_receiver.completion import complete_in_thread
from livebackup_receiver.storage_daemon.keys import encryption_of, encryption_of_new
from livebackup_receiver.storage_daemon.process import StorageDaemon

# The unit in which QEMU copies changes; smaller clusters would store no less, larger ones more.
CLUSTER_SIZE = 65536
BLOCK = 4096


@dataclass(frozen=True)
class NewLayer:
    """A layer to be made; ``parent`` lies in the same directory, so that a chain can be moved."""

    path: Path
    virtual_size: int
    parent: Path | None

    @property
    def kind(self) -> tuple[int, str | None]:
        """What the bytes of the empty layer depend on."""
        return self.virtual_size, self.parent.name if self.parent else None


async def create_layers(daemon: StorageDaemon, layers: Mapping[str, NewLayer]) -> None:
    """Make the files (``blockdev-create``) and open each for writing as a node, its chain below it.

    :param layers: the layer of each node name
    :raise StorageDaemonFailed: a file cannot be made, or a parent cannot be opened
    :raise KeyMissing: a parent is encrypted, and its key was not given
    :raise OSError: a file cannot be written
    """
    parents = await complete_in_thread(_parents, layers)
    if current().encrypts:
        await complete_in_thread(_make_encrypted, list(layers.values()))
    else:
        await _make_plain(daemon, list(layers.values()))
    opening = (
        daemon.execute("blockdev-add", _qcow2(node, layer, parents[node])) for node, layer in layers.items()
    )
    await asyncio.gather(*opening)


def _make_encrypted(layers: Sequence[NewLayer]) -> None:
    """Each has a volume key of its own, so that equal data in two of them do not look equal."""
    for layer in layers:
        parent, area = layer.parent.name if layer.parent else None, current().new_header()
        write_blank(layer.path, virtual_size=layer.virtual_size, parent=parent, area=area)


async def _make_plain(daemon: StorageDaemon, layers: Sequence[NewLayer]) -> None:
    """An empty layer depends on its size and its parent's name only: QEMU makes one of each kind.

    The others are copies, because two jobs for each of hundreds of disks would take seconds.
    """
    kinds: dict[tuple[int, str | None], list[Path]] = {}
    for layer in layers:
        made = kinds.setdefault(layer.kind, [])
        if not made:
            await _format(daemon, layer)
        made.append(layer.path)
    for first, *others in kinds.values():
        await complete_in_thread(copy_empty, first, others)


def _parents(layers: Mapping[str, NewLayer]) -> dict[str, dict[str, Any] | None]:
    """What opens the layer below each new one."""
    return {
        node: _parent(_backing_node(node), layer.parent) if layer.parent else None
        for node, layer in layers.items()
    }


async def flush_layers(daemon: StorageDaemon, layers: Mapping[str, NewLayer], *, timeout_s: float) -> None:
    """Prove that everything written to these layers is on the disk; nobody may be writing to them any more.

    A client's job that ends without an error proves nothing, and QEMU does not report a flush that fails
    when a node is closed. ``blockdev-reopen`` to read-only does: it flushes format and file first.

    :param layers: the layer of each node name
    :raise StorageDaemonFailed: a flush failed or takes longer
    """
    options = [
        {"driver": "qcow2", "node-name": node, "read-only": True, "file": _file_node(node)}
        | {"backing": _backing_node(node) if layer.parent else None}
        | encryption_of_new()
        for node, layer in layers.items()
    ]
    await daemon.execute("blockdev-reopen", {"options": options}, timeout_s=timeout_s)


async def close_new_layers(daemon: StorageDaemon, nodes: Sequence[str]) -> None:
    """Close nodes of ``create_layers``; what the daemon still holds of them is written."""
    await asyncio.gather(*(daemon.execute("blockdev-del", {"node-name": node}) for node in nodes))


def copy_empty(template: Path, copies: Sequence[Path]) -> None:
    """Copy a layer in which nothing is written yet; its zeros become holes."""
    content = template.read_bytes()
    blocks = [(at, content[at : at + BLOCK]) for at in range(0, len(content), BLOCK)]
    filled = [(at, block) for at, block in blocks if any(block)]
    for path in copies:
        with path.open("xb") as file:
            for at, block in filled:
                os.pwrite(file.fileno(), block, at)
            file.truncate(len(content))


async def open_layer(daemon: StorageDaemon, node: str, path: Path) -> None:
    """Open a sealed layer and its chain for reading.

    :raise StorageDaemonFailed: it, or a layer below it, cannot be opened
    :raise KeyMissing: one is encrypted, and its key was not given
    """
    encryption = await complete_in_thread(encryption_of, path)
    await daemon.execute("blockdev-add", _file(_file_node(node), path, writable=False))
    options = {"driver": "qcow2", "node-name": node, "file": _file_node(node), "read-only": True}
    await daemon.execute("blockdev-add", options | encryption)


async def _format(daemon: StorageDaemon, layer: NewLayer) -> None:
    file = _file_node("new")
    await daemon.run_job(
        "blockdev-create", {"options": {"driver": "file", "filename": str(layer.path), "size": 0}}
    )
    await daemon.execute("blockdev-add", {"driver": "file", "node-name": file, "filename": str(layer.path)})
    await daemon.run_job("blockdev-create", {"options": _qcow2_format(file, layer)})
    await daemon.execute("blockdev-del", {"node-name": file})


def _file_node(node: str) -> str:
    return f"{node}-file"


def _backing_node(node: str) -> str:
    return f"{node}-backing"


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


def _qcow2(node: str, layer: NewLayer, parent: dict[str, Any] | None) -> dict[str, Any]:
    # Zeros that are sent become zero clusters, which take no space.
    options = {
        "driver": "qcow2",
        "node-name": node,
        "file": _file(_file_node(node), layer.path, writable=True),
        "discard": "unmap",
        "detect-zeroes": "unmap",
        "backing": parent,
    }
    return options | encryption_of_new()


def _parent(node: str, path: Path) -> dict[str, Any]:
    # Named, because blockdev-reopen must say what is below a layer; the chain below it opens by itself.
    file = {"driver": "file", "filename": str(path)}
    # Without any key there is nothing to look for in hundreds of chains.
    encryption = encryption_of(path) if current().keys else {}
    return {"driver": "qcow2", "node-name": node, "read-only": True, "file": file} | encryption
