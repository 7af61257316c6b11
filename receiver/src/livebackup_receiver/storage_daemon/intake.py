# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What takes in the data of one session: a storage daemon with new layers, each exported writable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from livebackup_receiver.errors import StorageDaemonFailed
from livebackup_receiver.model import Transport
from livebackup_receiver.storage_daemon.exports import ExportServer, export_server
from livebackup_receiver.storage_daemon.layers import (
    NewLayer,
    close_new_layers,
    create_layers,
    flush_layers,
)
from livebackup_receiver.storage_daemon.ports import PortRange
from livebackup_receiver.storage_daemon.process import COMMAND_TIMEOUT_S


class Intake:
    """The open layers of a session; ``names`` has the export name of each (VM, disk)."""

    def __init__(self, server: ExportServer) -> None:
        self.daemon = server.daemon
        self.names: dict[tuple[str, str], str] = {}
        self._server = server
        self._layers: dict[str, NewLayer] = {}
        self._nodes: dict[tuple[str, str], str] = {}
        self._serving = True

    @property
    def transport(self) -> Transport:
        return self._server.transport

    async def add(self, layers: Mapping[tuple[str, str], NewLayer]) -> None:
        """Make layers and export them.

        :raise StorageDaemonFailed: one cannot be made or exported
        """
        self._nodes = {key: f"layer-{number}" for number, key in enumerate(layers)}
        self._layers = {self._nodes[key]: layer for key, layer in layers.items()}
        await create_layers(self.daemon, self._layers)
        self.daemon.reached("layers-created")
        names = (self._server.add(node, writable=True) for node in self._nodes.values())
        self.names = dict(zip(layers, await asyncio.gather(*names), strict=True))
        self.daemon.reached("layers-exported")

    async def flush(self, keys: Iterable[tuple[str, str]], *, timeout_s: float) -> None:
        """Take the exports away from their clients, and prove that these layers are on the disk.

        :raise StorageDaemonFailed: they are not, or not in time
        """
        layers = {self._nodes[key]: self._layers[self._nodes[key]] for key in keys}
        try:
            async with asyncio.timeout(timeout_s):
                await self._stop_serving()
                await flush_layers(self.daemon, layers, timeout_s=2 * timeout_s)
        except TimeoutError:
            raise self.daemon.failure("flush its layers", f"not done after {timeout_s:g} seconds") from None
        except StorageDaemonFailed as error:
            raise self.daemon.failure("flush its layers", error.problem) from error
        self.daemon.reached("flushed")

    async def close(self) -> None:
        """Close exports, server, layers and daemon in this order, each without an error.

        :raise StorageDaemonFailed: one could not be closed
        """
        await self._stop_serving()
        await close_new_layers(self.daemon, list(self._layers))
        self.daemon.reached("layers-closed")
        await self.daemon.quit()

    async def _stop_serving(self) -> None:
        if self._serving:
            await self._server.close()
            self._serving = False
            self.daemon.reached("exports-closed")


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
    label, user = f"session {session}", f"session-{session}"
    async with export_server(
        label, ports=ports, listen=listen, user=user, timeout_s=timeout_s, run=run
    ) as server:
        intake = Intake(server)
        await intake.add(layers)
        yield intake
