# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""NBD exports of a storage daemon: TLS-PSK with a key of their own, names that cannot be guessed."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from livebackup_receiver.model import Transport
from livebackup_receiver.storage_daemon.credentials import CREDENTIALS, write_credentials
from livebackup_receiver.storage_daemon.keys import key_objects
from livebackup_receiver.storage_daemon.layers import open_layer
from livebackup_receiver.storage_daemon.listener import Listener, listener
from livebackup_receiver.storage_daemon.ports import PortRange
from livebackup_receiver.storage_daemon.process import COMMAND_TIMEOUT_S, StorageDaemon, storage_daemon

KEY_BYTES = 32
NAME_BYTES = 24


class NamedExports:
    """Exports of a storage daemon under names that cannot be guessed."""

    def __init__(self, daemon: StorageDaemon) -> None:
        self.daemon = daemon
        self._ids = (f"export-{number}" for number in itertools.count())

    async def add(self, node: str, *, writable: bool) -> str:
        """Export a node; the name that a client must know.

        :raise StorageDaemonFailed: the node cannot be exported
        """
        name, export = secrets.token_urlsafe(NAME_BYTES), next(self._ids)
        await self.daemon.execute(
            "block-export-add",
            {"type": "nbd", "id": export, "node-name": node, "name": name, "writable": writable},
        )
        return name


class ExportServer(NamedExports):
    """The NBD server of one storage daemon."""

    def __init__(self, daemon: StorageDaemon, transport: Transport) -> None:
        super().__init__(daemon)
        self.transport = transport

    async def close(self) -> None:
        """End the server with every export (``nbd-server-stop``); their clients are cut off.

        :raise StorageDaemonFailed: one does not end
        """
        await self.daemon.execute("nbd-server-stop")


@dataclass
class ReadOnlyExports:
    """Layers served for reading; ``names`` has the export name of each key."""

    transport: Transport
    daemon: StorageDaemon
    names: dict[str, str] = field(default_factory=dict)


@asynccontextmanager
async def export_server(
    label: str,
    *,
    ports: PortRange,
    listen: str,
    user: str,
    timeout_s: float = COMMAND_TIMEOUT_S,
    run: Path | None = None,
) -> AsyncIterator[ExportServer]:
    """A storage daemon of one's own with an NBD server on a free port, and a fresh key.

    The port is held until the block ends; the server itself goes with its daemon.

    :param label: whose it is, for messages: "session 01J..."
    :param user: the name of the key, such as "session-01J..."
    :param timeout_s: how long the daemon may take for a command
    :param run: where the daemon's private directory is made; see ``storage_daemon``
    :raise NoPortFree: every port of the range is taken
    :raise StorageDaemonFailed: the daemon cannot be started, or not listen
    """
    key = secrets.token_hex(KEY_BYTES)
    async with AsyncExitStack() as stack:
        opened = stack.enter_context(listener(label, ports=ports, listen=listen))
        keys = stack.enter_context(key_objects())

        def options(directory: Path) -> list[str]:
            credentials = write_credentials(directory, user, key)
            server = ["--object", json.dumps(credentials), "--nbd-server", json.dumps(_server(opened))]
            return [*keys.options, *server]

        descriptors = [opened.socket.fileno(), *keys.descriptors]
        started = storage_daemon(label, timeout_s=timeout_s, run=run, options=options, pass_fds=descriptors)
        daemon = await stack.enter_async_context(started)
        opened.close()
        daemon.reached("listening")
        yield ExportServer(daemon, Transport(port=opened.port, psk_username=user, psk_key=key))


async def export_layers(server: ExportServer, files: Mapping[str, Path]) -> ReadOnlyExports:
    """Serve sealed layers, each with its chain, for reading.

    :param files: a key of the caller's choice for each layer file
    :raise StorageDaemonFailed: a layer cannot be opened or served
    """
    exports = ReadOnlyExports(server.transport, server.daemon)
    for number, (key, path) in enumerate(files.items()):
        await open_layer(server.daemon, f"layer-{number}", path)
        exports.names[key] = await server.add(f"layer-{number}", writable=False)
    return exports


def _server(opened: Listener) -> dict[str, Any]:
    """QAPI ``NbdServerOptions``."""
    address = {"type": "fd", "str": str(opened.socket.fileno())}
    return {"addr": address, "tls-creds": CREDENTIALS, "max-connections": 0}
