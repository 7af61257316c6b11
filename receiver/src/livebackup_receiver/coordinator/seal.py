# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From received data to durable layers, in the only safe order.

Flush, close, fsync, check, digest, manifest, rename; the commit record comes after all of it. A layer
under its final name without a commit record is removed by the abort, or at the next start.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from livebackup_receiver import faultpoints
from livebackup_receiver.completion import complete_in_thread
from livebackup_receiver.coordinator.receipt import Receipt
from livebackup_receiver.model import Transfer
from livebackup_receiver.storage_daemon.intake import Intake
from livebackup_receiver.store import durable
from livebackup_receiver.store.integrity import check_layer, digest_file
from livebackup_receiver.store.manifest import Manifest, Member, write_manifest
from livebackup_receiver.store.paths import Store

# Check and digest read whole layers; more at once would only make the disks seek.
PARALLEL_LAYERS = 2
BLOCK = 512


@dataclass(frozen=True)
class SealedLayer:
    """A layer that will not change any more; sizes in bytes, ``stored_bytes`` without its holes."""

    size: int
    stored_bytes: int
    digest: str


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
    turn = asyncio.Semaphore(PARALLEL_LAYERS)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_seal_layer(each, receipt, store, turn, now)) for each in receipt.transfers
            ]
    except ExceptionGroup as several:
        raise several.exceptions[0] from several
    return [task.result() for task in tasks]


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
        digest=layer.digest,
        members=[Member(vm=each.vm, disk=each.disk) for each in receipt.transfers],
        missing=list(receipt.missing),
    )


async def _seal_layer(
    transfer: Transfer, receipt: Receipt, store: Store, turn: asyncio.Semaphore, now: datetime
) -> Manifest:
    directory = store.disk(transfer.vm, transfer.disk)
    partial = directory.partial(receipt.session)
    async with turn:
        await complete_in_thread(durable.sync_file, partial)
        faultpoints.reached("session.layer-synced")
        await check_layer(partial)
        faultpoints.reached("session.layer-checked")
        layer = _measure(partial, await digest_file(partial))
        manifest = manifest_of(transfer, layer, receipt, now=now)
        await complete_in_thread(write_manifest, directory.manifest(receipt.session), manifest)
        faultpoints.reached("session.manifest-written")
        await complete_in_thread(durable.rename, partial, directory.layer(receipt.session))
        faultpoints.reached("session.layer-renamed")
    return manifest


def _measure(path: Path, digest: str) -> SealedLayer:
    status = path.stat()
    return SealedLayer(size=status.st_size, stored_bytes=status.st_blocks * BLOCK, digest=digest)
