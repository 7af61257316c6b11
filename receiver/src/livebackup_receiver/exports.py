# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Points served over NBD for reading; each export has a storage daemon, a port and a key of its own.

An export that nobody has read for its time to live is taken away, and so is every one when the receiver
stops.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ulid import ULID

from livebackup_receiver.catalog import points
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.config import Config
from livebackup_receiver.errors import ExportUnknown
from livebackup_receiver.model import Model, Moment, PointDisk, Transport
from livebackup_receiver.restore import chain_layers, check_layers, select_disks
from livebackup_receiver.scrub.known import require_sound
from livebackup_receiver.storage_daemon.exports import (
    ExportServer,
    ReadOnlyExports,
    export_layers,
    export_server,
)
from livebackup_receiver.storage_daemon.ports import PortRange
from livebackup_receiver.store import access
from livebackup_receiver.store.paths import Store

log = logging.getLogger(__name__)

# How often reads are looked for, as parts of the time to live; an export lives at most this much longer.
LOOKS_PER_LIFE = 10
# What a daemon reads between two looks without reading for a client: its own wake-ups, some bytes each.
NOISE_BYTES = 32 * 1024


class ExportDisk(Model):
    """One disk of an export; ``export`` is the NBD name, ``virtual_size`` in bytes."""

    disk: str
    export: str
    virtual_size: int


class Export(Model):
    """A VM's disks at a point, served for reading until ``expires_at``; every read puts that off."""

    id: str
    point: str
    vm: str
    transport: Transport
    expires_at: Moment
    disks: list[ExportDisk]


@dataclass(frozen=True)
class Wanted:
    """What to export: disks of a VM at a point, and the layers of each, top first.

    ``recheck`` raises if the point was dropped before its layers could be held. ``on_read`` is called in a
    thread, some times in the export's time to live, if it was read.
    """

    point: str
    vm: str
    disks: list[PointDisk]
    chains: Mapping[str, Sequence[Path]]
    recheck: Callable[[], None] = field(default=lambda: None, compare=False)
    on_read: Callable[[], None] = field(default=lambda: None, compare=False)


def find_wanted(
    catalog: Catalog,
    store: Store,
    point: str,
    vm: str,
    disks: Sequence[str] | None = None,
    *,
    accept_damage: bool = False,
    on_read: Callable[[], None] = lambda: None,
) -> Wanted:
    """Disks of a VM at a point, as the catalog has them now.

    :param disks: none: all of them
    :param accept_damage: also if they are known to be damaged
    :raise PointUnknown, VmUnknown, DiskUnknown: there is no such thing
    :raise PointDamaged: a disk is known to be damaged at this point
    """
    with catalog.read() as db:
        held = select_disks(points.load_point(db, point), vm, disks)
        chains = {
            disk.disk: chain_layers(points.disk_chain(db, point=point, vm=vm, disk=disk.disk), store.root)
            for disk in held
        }
    if not accept_damage:
        require_sound(catalog, store, point, vm, list(chains))
    return Wanted(point, vm, held, chains, lambda: points.require_point(catalog, point), on_read)


@dataclass
class _Held:
    task: asyncio.Task[None]
    ended: asyncio.Event


class LiveExports:
    """The exports that are being served; belongs to one event loop."""

    def __init__(self, *, ports: PortRange, listen: str, run: Path, ttl_s: float, timeout_s: float) -> None:
        self._ports = ports
        self._listen = listen
        self._timeout_s = timeout_s
        self._run = run
        self._ttl_s = ttl_s
        self._held: dict[str, _Held] = {}

    async def open(self, wanted: Wanted) -> Export:
        """Serve disks of a point.

        :raise StorageDaemonFailed: they cannot be served
        """
        export_id = str(ULID())
        ready: asyncio.Future[Export] = asyncio.get_running_loop().create_future()
        ended = asyncio.Event()
        task = asyncio.create_task(self._serve(export_id, wanted, ready, ended), name=f"export {export_id}")
        self._held[export_id] = _Held(task, ended)
        return await asyncio.shield(ready)

    async def close(self, export_id: str) -> None:
        """End an export; its clients are cut off.

        :raise ExportUnknown: there is none, or it has expired
        """
        held = self._held.get(export_id)
        if held is None:
            raise ExportUnknown(export_id)
        held.ended.set()
        await asyncio.wait([held.task])

    async def close_all(self) -> None:
        """End every export."""
        held = list(self._held.values())
        for each in held:
            each.ended.set()
        if held:
            await asyncio.wait([each.task for each in held])

    async def _serve(
        self, export_id: str, wanted: Wanted, ready: asyncio.Future[Export], ended: asyncio.Event
    ) -> None:
        try:
            async with (
                export_server(
                    f"export {export_id}",
                    ports=self._ports,
                    listen=self._listen,
                    user=f"export-{export_id}",
                    timeout_s=self._timeout_s,
                    run=self._run,
                ) as server,
                AsyncExitStack() as stack,
            ):
                served = await _export(wanted, server, stack)
                ready.set_result(self._describe(export_id, wanted, served))
                log.info("export=%s point=%s vm=%s is served", export_id, wanted.point, wanted.vm)
                await self._wait_for_end(served, ended, wanted.on_read)
        except Exception as error:
            # Whoever waits for the export must be told, whatever it is.
            log.error("export=%s point=%s vm=%s: %s", export_id, wanted.point, wanted.vm, error)
            if not ready.done():
                ready.set_exception(error)
        finally:
            del self._held[export_id]
            log.info("export=%s has ended", export_id)

    def _describe(self, export_id: str, wanted: Wanted, served: ReadOnlyExports) -> Export:
        return Export(
            id=export_id,
            point=wanted.point,
            vm=wanted.vm,
            transport=served.transport,
            expires_at=datetime.now(UTC) + timedelta(seconds=self._ttl_s),
            disks=[
                ExportDisk(disk=disk.disk, export=served.names[disk.disk], virtual_size=disk.virtual_size)
                for disk in wanted.disks
            ],
        )

    async def _wait_for_end(
        self, served: ReadOnlyExports, ended: asyncio.Event, on_read: Callable[[], None]
    ) -> None:
        daemon = served.daemon.process
        looks_without_read, seen = 0, _bytes_read_by(daemon.pid)
        while looks_without_read < LOOKS_PER_LIFE and daemon.returncode is None:
            try:
                await asyncio.wait_for(ended.wait(), self._ttl_s / LOOKS_PER_LIFE)
            except TimeoutError:
                now = _bytes_read_by(daemon.pid)
                looks_without_read = 0 if now - seen > NOISE_BYTES else looks_without_read + 1
                if looks_without_read == 0:
                    await asyncio.to_thread(on_read)
                seen = now
            else:
                return


async def _export(wanted: Wanted, server: ExportServer, stack: AsyncExitStack) -> ReadOnlyExports:
    """Open the layers, which nobody frees of anything until the stack is closed.

    :raise LayerDamaged: a layer is missing, or its chain leads elsewhere than it should
    :raise StorageDaemonFailed: they cannot be served
    """
    layers = [layer for chain in wanted.chains.values() for layer in chain]
    with ExitStack() as names:
        directories = [layer.parent for layer in layers if layer.parent.is_dir()]
        await asyncio.to_thread(names.enter_context, access.opening(directories))
        stack.enter_context(access.reading(layers))
        wanted.recheck()
        for chain in wanted.chains.values():
            check_layers(chain)
        return await export_layers(server, {disk: chain[0] for disk, chain in wanted.chains.items()})


def _bytes_read_by(pid: int) -> int:
    """The bytes a process has read so far, from its page cache or not (proc(5), ``rchar``)."""
    # The daemon reads files for its clients only; its own statistics count no export (QEMU 7.2).
    try:
        counters = Path(f"/proc/{pid}/io").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(counters.split()[1])


@asynccontextmanager
async def open_exports(config: Config, ports: PortRange) -> AsyncIterator[LiveExports]:
    """The exports of a running receiver; all end with the block."""
    exports = LiveExports(
        ports=ports,
        listen=config.nbd_listen,
        run=Store(config.store).run,
        ttl_s=config.export_ttl_s,
        timeout_s=config.storage_daemon_timeout_s,
    )
    try:
        yield exports
    finally:
        await exports.close_all()
