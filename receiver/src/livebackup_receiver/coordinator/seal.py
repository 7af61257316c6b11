# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From received data to durable layers, in the only safe order.

Flush, close, fsync, check, digest table, names of manifest and layer; the commit record comes after
all of it. A layer under its final name without a commit record is removed by the abort, or at the next start.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from livebackup_receiver import faultpoints
from livebackup_receiver.completion import complete_in_thread
from livebackup_receiver.coordinator.receipt import Receipt
from livebackup_receiver.errors import DigestsInvalid, ManifestInvalid
from livebackup_receiver.model import Transfer
from livebackup_receiver.storage_daemon.intake import Intake
from livebackup_receiver.store import durable
from livebackup_receiver.store.ancestry import ancestry
from livebackup_receiver.store.digests import read_chain, root_of, write_table
from livebackup_receiver.store.integrity import check_layer
from livebackup_receiver.store.manifest import Manifest, write_manifest
from livebackup_receiver.store.paths import DiskDirectory, Store
from livebackup_receiver.store.structure import is_sound

log = logging.getLogger(__name__)

# Check and digests read whole layers; more at once would only make the disks seek. Of small ones the time
# goes into waiting for fsync, which serves many at once.
PARALLEL_LAYERS = 2
PARALLEL_SMALL_LAYERS = 16
SMALL_BYTES = 4 << 20
BLOCK = 512


@dataclass(frozen=True)
class SealedLayer:
    """A layer that no session will change any more; sizes in bytes, ``stored_bytes`` without its holes."""

    size: int
    stored_bytes: int
    root: str | None


async def seal(
    receipt: Receipt, intake: Intake, store: Store, *, flush_timeout_s: float, now: datetime
) -> list[Manifest]:
    """Make the received layers final and durable; their manifests, which lie beside them.

    :raise StorageDaemonFailed: data could not be flushed, or a layer not be closed
    :raise CommandFailed: a layer could not be read
    :raise LayerDamaged: a layer is corrupt
    """
    keys = [(disk.vm, disk.disk) for disk in receipt.transfers]
    await intake.flush(keys, timeout_s=flush_timeout_s)
    faultpoints.reached("session.flushed")
    await intake.close()
    faultpoints.reached("session.intake-closed")
    turns = asyncio.Semaphore(PARALLEL_LAYERS), asyncio.Semaphore(PARALLEL_SMALL_LAYERS)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_seal_layer(each, receipt, store, turns[_is_small(each)], now))
                for each in receipt.transfers
            ]
    except ExceptionGroup as several:
        raise several.exceptions[0] from several
    return [task.result() for task in tasks]


def _is_small(transfer: Transfer) -> bool:
    return transfer.sent_bytes < SMALL_BYTES


def manifest_of(transfer: Transfer, layer: SealedLayer, receipt: Receipt, *, now: datetime) -> Manifest:
    """The manifest of one sealed layer."""
    return Manifest(
        point=receipt.session,
        group=receipt.group,
        vm=transfer.vm,
        disk=transfer.disk,
        host=transfer.host,
        parent=transfer.parent,
        level=transfer.level,
        level_reason=transfer.level_reason,
        virtual_size=transfer.virtual_size,
        cut_at=receipt.cut_at,
        sealed_at=now,
        consistency=receipt.consistency_of(transfer),
        pause_ms=transfer.pause_ms,
        complete=receipt.complete,
        layer_size=layer.size,
        stored_bytes=layer.stored_bytes,
        dirty_bytes=transfer.dirty_bytes,
        sent_bytes=transfer.sent_bytes,
        root=layer.root,
        members=receipt.members,
        missing=list(receipt.missing),
    )


async def _seal_layer(
    transfer: Transfer, receipt: Receipt, store: Store, turn: asyncio.Semaphore, now: datetime
) -> Manifest:
    directory = store.disk(transfer.vm, transfer.disk)
    partial = directory.partial(receipt.session)
    async with turn:
        if not await complete_in_thread(_sync_and_look, partial):
            await check_layer(partial)
        faultpoints.reached("session.layer-checked")
        # the layer's own new name, the last, brings all names of its directory to the disk
        table = directory.digests(receipt.session)
        await complete_in_thread(write_table, partial, table, sync_name=False)
        layer = await complete_in_thread(_measure, partial, table, transfer.parent)
        manifest = manifest_of(transfer, layer, receipt, now=now)
        await complete_in_thread(_name, manifest, directory, partial)
    return manifest


def _sync_and_look(partial: Path) -> bool:
    durable.sync_file(partial)
    faultpoints.reached("session.layer-synced")
    return is_sound(partial)


def _name(manifest: Manifest, directory: DiskDirectory, partial: Path) -> None:
    """Give manifest and layer their names, which become durable together."""
    write_manifest(directory.manifest(manifest.point), manifest, sync_name=False)
    faultpoints.reached("session.manifest-written")
    durable.rename(partial, directory.layer(manifest.point))
    faultpoints.reached("session.layer-renamed")


def _measure(partial: Path, table: Path, parent: str | None) -> SealedLayer:
    status = partial.stat()
    root = _root(table, parent)
    return SealedLayer(size=status.st_size, stored_bytes=status.st_blocks * BLOCK, root=root)


def _root(table: Path, parent: str | None) -> str | None:
    """The digest of the whole disk; None if a table below is missing, which a scrub will tell of."""
    directory = DiskDirectory(table.parent)
    try:
        below = [directory.digests(point) for point in ancestry(directory, parent)] if parent else []
        return root_of(read_chain([*below, table]))
    except (ManifestInvalid, DigestsInvalid) as error:
        log.warning("%s: no digest of the whole disk: %s", table, error.cause)
        return None
