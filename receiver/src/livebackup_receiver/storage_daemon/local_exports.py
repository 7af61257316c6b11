# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers served for reading on a Unix socket, to a program of this machine that may read nothing else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from livebackup_receiver.storage_daemon.keys import key_objects
from livebackup_receiver.storage_daemon.layers import open_layer
from livebackup_receiver.storage_daemon.process import COMMAND_TIMEOUT_S, StorageDaemon, storage_daemon


@dataclass(frozen=True)
class LocalExports:
    """``names`` are those of the exports, in the order of the layers."""

    socket: Path
    names: tuple[str, ...]
    daemon: StorageDaemon


@asynccontextmanager
async def local_exports(
    label: str, layers: Sequence[Path], *, socket: Path, timeout_s: float = COMMAND_TIMEOUT_S
) -> AsyncIterator[LocalExports]:
    """A storage daemon of one's own that serves sealed layers, each with its chain.

    :param label: whose it is, for messages
    :param socket: where; in a directory that nobody else may enter
    :raise StorageDaemonFailed: the daemon cannot be started, or a layer not be opened
    :raise KeyMissing: a layer is encrypted, and its key was not given
    """
    address = {"addr": {"type": "unix", "path": str(socket)}, "max-connections": 0}
    with key_objects() as keys:
        options = [*keys.options, "--nbd-server", json.dumps(address)]
        started = storage_daemon(
            label, timeout_s=timeout_s, options=lambda dummy: options, pass_fds=keys.descriptors
        )
        async with started as daemon:
            names = tuple(f"disk-{number}" for number in range(len(layers)))
            for name, layer in zip(names, layers, strict=True):
                await open_layer(daemon, name, layer)
                export = {"type": "nbd", "id": name, "node-name": name, "name": name, "writable": False}
                await daemon.execute("block-export-add", export)
            yield LocalExports(socket, names, daemon)
