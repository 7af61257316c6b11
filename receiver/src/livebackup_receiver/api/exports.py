# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes of exports: points served over NBD for reading."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, status
from pydantic import Field

from livebackup_receiver.api.auth import MayRestore, ReceiverOf
from livebackup_receiver.catalog import points
from livebackup_receiver.exports import Export, Wanted
from livebackup_receiver.model import Model
from livebackup_receiver.restore import chain_layers, on_newest_chain, select_disks
from livebackup_receiver.scrub.known import require_sound
from livebackup_receiver.state import Receiver

router = APIRouter(prefix="/api/v1", tags=["exports"])


class Exporting(Model):
    """What to export: disks of a VM; null: all of them."""

    vm: str
    disks: Annotated[list[str], Field(min_length=1)] | None = None


@router.post("/points/{point_id}/exports", status_code=status.HTTP_201_CREATED)
async def open_export(point_id: str, exporting: Exporting, receiver: ReceiverOf, token: MayRestore) -> Export:
    """Serve a VM's disks at a point for reading; the answer is the only place that says its key."""
    return await on_newest_chain(lambda: find_wanted(receiver, point_id, exporting), receiver.exports.open)


@router.delete("/exports/{export_id}", status_code=status.HTTP_204_NO_CONTENT)
async def close_export(export_id: str, receiver: ReceiverOf, token: MayRestore) -> None:
    """End an export and cut off its clients."""
    await receiver.exports.close(export_id)


def find_wanted(
    receiver: Receiver,
    point_id: str,
    exporting: Exporting,
    on_read: Callable[[], None] = lambda: None,
) -> Wanted:
    """What to export, as the catalog has it now.

    :raise PointUnknown, VmUnknown, DiskUnknown: there is no such thing
    """
    with receiver.catalog.read() as db:
        point = points.load_point(db, point_id)
        disks = select_disks(point, exporting.vm, exporting.disks)
        chains = {
            disk.disk: chain_layers(
                points.disk_chain(db, point=point_id, vm=exporting.vm, disk=disk.disk), receiver.store.root
            )
            for disk in disks
        }
    require_sound(receiver.catalog, receiver.store, point_id, exporting.vm, list(chains))
    return Wanted(
        point.id,
        exporting.vm,
        disks,
        chains,
        lambda: points.require_point(receiver.catalog, point_id),
        on_read,
    )
