# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""NBD exports of a storage daemon: TLS-PSK with a key of their own, names that cannot be guessed."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from livebackup_receiver.errors import NoPortFree, StorageDaemonFailed
from livebackup_receiver.model import Transport
from livebackup_receiver.storage_daemon.credentials import CREDENTIALS, write_credentials
from livebackup_receiver.storage_daemon.layers import open_layer
from livebackup_receiver.storage_daemon.ports import PortRange
from livebackup_receiver.storage_daemon.process import COMMAND_TIMEOUT_S, StorageDaemon, storage_daemon

KEY_BYTES = 32
NAME_BYTES = 24
ADDRESS_IN_USE = "Address already in use"


class ExportServer:
    """The NBD server of one storage daemon."""

    def __init__(self, daemon: StorageDaemon, transport: Transport) -> None:
        self.transport = transport
        self._daemon = daemon
        self._ids = (f"export-{number}" for number in itertools.count())

    async def add(self, node: str, *, writable: bool) -> str:
        """Export a node; the name that a client must know.

        :raise StorageDaemonFailed: the node cannot be exported
        """
        name, export = secrets.token_urlsafe(NAME_BYTES), next(self._ids)
        await self._daemon.execute(
            "block-export-add",
            {"type": "nbd", "id": export, "node-name": node, "name": name, "writable": writable},
        )
        return name

    async def close(self) -> None:
        """End the server with every export (``nbd-server-stop``); their clients are cut off.

        :raise StorageDaemonFailed: one does not end
        """
        await self._daemon.execute("nbd-server-stop")


@dataclass
class ReadOnlyExports:
    """Layers served for reading; ``names`` has the export name of each key."""

    transport: Transport
    daemon: StorageDaemon
    names: dict[str, str] = field(default_factory=dict)


@asynccontextmanager
async def export_server(
    daemon: StorageDaemon, *, ports: PortRange, listen: str, user: str
) -> AsyncIterator[ExportServer]:
    """Start the daemon's NBD server on a free port, with a fresh key.

    The port is held until the block ends; the server itself goes with its daemon.

    :param user: the name of the key, such as "session-01J..."
    :raise NoPortFree: every port of the range is taken
    :raise StorageDaemonFailed: the server cannot be started
    """
    key = secrets.token_hex(KEY_BYTES)
    await daemon.execute("object-add", write_credentials(daemon.directory, user, key))
    with ports.lease() as candidates:
        for port in candidates:
            if await _listen_on(daemon, listen, port):
                transport = Transport(port=port, psk_username=user, psk_key=key)
                daemon.reached("listening")
                yield ExportServer(daemon, transport)
                return
        raise NoPortFree(daemon.label, "listen for NBD", "every port of nbd_ports is in use")


@asynccontextmanager
async def read_only_exports(
    files: Mapping[str, Path],
    *,
    ports: PortRange,
    listen: str,
    user: str,
    label: str,
    timeout_s: float = COMMAND_TIMEOUT_S,
    run: Path | None = None,
) -> AsyncIterator[ReadOnlyExports]:
    """Serve sealed layers, each with its chain, for reading until the block ends.

    :param files: a key of the caller's choice for each layer file
    :param user: the name of the key, such as "export-01J..."
    :param label: whose exports they are, for messages: "export 01J..."
    :param timeout_s: how long the daemon may take for a command
    :param run: where the daemon's private directory is made; see ``storage_daemon``
    :raise StorageDaemonFailed: a layer cannot be opened or served
    """
    async with AsyncExitStack() as stack:
        daemon = await stack.enter_async_context(storage_daemon(label, timeout_s=timeout_s, run=run))
        server = await stack.enter_async_context(export_server(daemon, ports=ports, listen=listen, user=user))
        exports = ReadOnlyExports(server.transport, daemon)
        for number, (key, path) in enumerate(files.items()):
            await open_layer(daemon, f"layer-{number}", path)
            exports.names[key] = await server.add(f"layer-{number}", writable=False)
        yield exports


async def _listen_on(daemon: StorageDaemon, listen: str, port: int) -> bool:
    address = {"type": "inet", "data": {"host": listen, "port": str(port)}}
    try:
        await daemon.execute(
            "nbd-server-start", {"addr": address, "tls-creds": CREDENTIALS, "max-connections": 0}
        )
    except StorageDaemonFailed as error:
        if ADDRESS_IN_USE in error.problem:
            return False
        raise
    return True
