# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes of exports: points served over NBD for reading."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, status
from pydantic import Field

from livebackup_receiver.api.auth import MayRestore, ReceiverOf
from livebackup_receiver.exports import Export, find_wanted
from livebackup_receiver.model import Model
from livebackup_receiver.restore import on_newest_chain

router = APIRouter(prefix="/api/v1", tags=["exports"])


class Exporting(Model):
    """What to export: disks of a VM; null: all of them."""

    vm: str
    disks: Annotated[list[str], Field(min_length=1)] | None = None


@router.post("/points/{point_id}/exports", status_code=status.HTTP_201_CREATED)
async def open_export(point_id: str, exporting: Exporting, receiver: ReceiverOf, token: MayRestore) -> Export:
    """Serve a VM's disks at a point for reading; the answer is the only place that says its key."""
    plan = partial(find_wanted, receiver.catalog, receiver.store, point_id, exporting.vm, exporting.disks)
    return await on_newest_chain(plan, receiver.exports.open)


@router.delete("/exports/{export_id}", status_code=status.HTTP_204_NO_CONTENT)
async def close_export(export_id: str, receiver: ReceiverOf, token: MayRestore) -> None:
    """End an export and cut off its clients."""
    await receiver.exports.close(export_id)
