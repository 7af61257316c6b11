# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers served for reading to whoever can reach a socket in a directory: without keys, without a port."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from livebackup_receiver.storage_daemon.exports import NamedExports
from livebackup_receiver.storage_daemon.keys import key_objects
from livebackup_receiver.storage_daemon.layers import open_layer
from livebackup_receiver.storage_daemon.process import StorageDaemon, storage_daemon

BACKLOG = 64


@dataclass
class LocalExports:
    """What is served; ``names`` has the export name of each key."""

    daemon: StorageDaemon
    names: dict[str, str] = field(default_factory=dict)


@asynccontextmanager
async def local_exports(
    label: str, files: Mapping[str, Path], *, directory: Path, name: str, run: Path, timeout_s: float
) -> AsyncIterator[LocalExports]:
    """Sealed layers, each with its chain, served read-only until the block ends.

    :param files: a key of the caller's choice for each layer file
    :param directory: where the socket is made, under this name
    :param run: where the daemon's private directory is made
    :raise StorageDaemonFailed: the daemon cannot be started, or a layer not opened
    :raise KeyMissing: a layer is encrypted, and its key was not given
    """
    with ExitStack() as stack:
        listener = stack.enter_context(_listener(directory, name))
        keys = stack.enter_context(key_objects())
        address = {"type": "fd", "str": str(listener.fileno())}
        server = ["--nbd-server", json.dumps({"addr": address, "max-connections": 0})]
        async with storage_daemon(
            label,
            timeout_s=timeout_s,
            run=run,
            options=lambda dummy: [*keys.options, *server],
            pass_fds=[listener.fileno(), *keys.descriptors],
        ) as daemon:
            listener.close()
            exports, server_of = LocalExports(daemon), NamedExports(daemon)
            for number, (key, path) in enumerate(files.items()):
                await open_layer(daemon, f"layer-{number}", path)
                exports.names[key] = await server_of.add(f"layer-{number}", writable=False)
            yield exports


@contextmanager
def _listener(directory: Path, name: str) -> Iterator[socket.socket]:
    """A listening socket, however long the path of its directory is: its name alone must fit."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(f"/proc/self/fd/{descriptor}/{name}")
            opened.listen(BACKLOG)
            yield opened
    finally:
        os.close(descriptor)
