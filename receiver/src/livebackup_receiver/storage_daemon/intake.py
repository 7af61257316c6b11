# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What takes in the data of one session: a storage daemon with new layers, each exported writable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from livebackup_receiver.errors import CommandFailed, CommandTimedOut
from livebackup_receiver.model import Transport
from livebackup_receiver.storage_daemon.exports import ExportServer, export_server
from livebackup_receiver.storage_daemon.flush import flush
from livebackup_receiver.storage_daemon.layers import NewLayer, close_layer, create_layer
from livebackup_receiver.storage_daemon.ports import PortRange
from livebackup_receiver.storage_daemon.process import COMMAND_TIMEOUT_S, StorageDaemon, storage_daemon


class Intake:
    """The open layers of a session; ``names`` has the export name of each (VM, disk)."""

    def __init__(self, daemon: StorageDaemon, server: ExportServer) -> None:
        self.daemon = daemon
        self.names: dict[tuple[str, str], str] = {}
        self._server = server
        self._nodes: list[str] = []

    @property
    def transport(self) -> Transport:
        return self._server.transport

    async def add(self, key: tuple[str, str], layer: NewLayer) -> None:
        """Make a layer and export it.

        :raise StorageDaemonFailed: it cannot be made or exported
        """
        node = f"layer-{len(self._nodes)}"
        await create_layer(self.daemon, node, layer)
        self.daemon.reached("layer-created")
        self._nodes.append(node)
        self.names[key] = await self._server.add(node, writable=True)
        self.daemon.reached("layer-exported")

    async def flush(self, keys: Iterable[tuple[str, str]], *, timeout_s: float) -> None:
        """Prove that these layers are on the disk.

        :raise StorageDaemonFailed: they are not, or not in time
        """
        try:
            await flush([self._server.uri(self.names[key]) for key in keys], timeout_s=timeout_s)
        except CommandTimedOut:
            raise self.daemon.failure("flush its layers", f"not done after {timeout_s:g} seconds") from None
        except CommandFailed as error:
            raise self.daemon.failure("flush its layers", error.last_words) from error
        self.daemon.reached("flushed")

    async def close(self) -> None:
        """Close exports, server, layers and daemon in this order, each without an error.

        :raise StorageDaemonFailed: one could not be closed
        """
        await self._server.close()
        self.daemon.reached("exports-closed")
        for node in self._nodes:
            await close_layer(self.daemon, node)
        self.daemon.reached("layers-closed")
        await self.daemon.quit()


@asynccontextmanager
async def open_intake(
    layers: Mapping[tuple[str, str], NewLayer],
    *,
    session: str,
    ports: PortRange,
    listen: str,
    timeout_s: float = COMMAND_TIMEOUT_S,
    run: Path | None = None,
) -> AsyncIterator[Intake]:
    """The intake of one session; if it was not closed when the block ends, it is killed.

    :param layers: the new layer of each (VM, disk)
    :param timeout_s: how long the daemon may take for a command
    :param run: where the daemon's private directory is made; see ``storage_daemon``
    :raise StorageDaemonFailed: the daemon, a layer or an export cannot be made
    """
    async with AsyncExitStack() as stack:
        daemon = await stack.enter_async_context(
            storage_daemon(f"session {session}", timeout_s=timeout_s, run=run)
        )
        server = await stack.enter_async_context(
            export_server(daemon, ports=ports, listen=listen, user=f"session-{session}")
        )
        intake = Intake(daemon, server)
        for key, layer in layers.items():
            await intake.add(key, layer)
        daemon.reached("ready")
        yield intake
