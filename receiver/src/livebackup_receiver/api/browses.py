# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes that look into the disks of a point: file systems, directories, the content of files."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Response, status

from livebackup_receiver.api.auth import MayRestore, ReceiverOf
from livebackup_receiver.browse.answers import content_answer
from livebackup_receiver.browse.entries import FileSystems, Listing
from livebackup_receiver.browse.live import Browse
from livebackup_receiver.exports import find_wanted
from livebackup_receiver.model import Model
from livebackup_receiver.state import Receiver

PAGE = 1000

router = APIRouter(prefix="/api/v1", tags=["files"])

FileSystemName = Annotated[str, Query(description="Its name, or `guest` for what the guest itself mounts.")]
GuestPath = Annotated[str, Query(description="Absolute; odd bytes as \\xNN, a backslash as two.")]


class Browsing(Model):
    """Whose disks to look into; ``accept_damage``: also if they are known to be damaged."""

    vm: str
    accept_damage: bool = False


@router.post("/points/{point_id}/browses", status_code=status.HTTP_201_CREATED)
async def open_browse(point_id: str, browsing: Browsing, receiver: ReceiverOf, token: MayRestore) -> Browse:
    """Start a guest that sees a VM's disks, or take the one that there is; it is not waited for."""
    return await start_browse(receiver, point_id, browsing.vm, accept_damage=browsing.accept_damage)


@router.get("/browses/{browse_id}")
async def get_browse(browse_id: str, receiver: ReceiverOf, token: MayRestore) -> Browse:
    """Whether the guest has started."""
    return receiver.browses.get(browse_id)


@router.delete("/browses/{browse_id}", status_code=status.HTTP_204_NO_CONTENT)
async def close_browse(browse_id: str, receiver: ReceiverOf, token: MayRestore) -> None:
    """End the guest."""
    await receiver.browses.close(browse_id)


@router.get("/browses/{browse_id}/file-systems")
async def list_file_systems(browse_id: str, receiver: ReceiverOf, token: MayRestore) -> FileSystems:
    """Every file system in the disks, also those whose files cannot be seen. Waits for the guest's start."""
    async with receiver.browses.use(browse_id) as guest:
        return FileSystems(file_systems=guest.file_systems)


@router.get("/browses/{browse_id}/entries")
async def list_entries(
    browse_id: str,
    file_system: FileSystemName,
    receiver: ReceiverOf,
    token: MayRestore,
    path: GuestPath = "/",
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=PAGE)] = PAGE,
) -> Listing:
    """A page of a directory."""
    async with receiver.browses.use(browse_id) as guest:
        return await guest.list(file_system, path, offset=offset, limit=limit)


@router.get(
    "/browses/{browse_id}/content",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}, "application/x-tar": {}}}},
)
async def get_content(
    browse_id: str, file_system: FileSystemName, path: GuestPath, receiver: ReceiverOf, token: MayRestore
) -> Response:
    """The content of a file, or a tar archive of a directory with all below it."""
    return await content_answer(receiver.browses, browse_id, file_system, path)


async def start_browse(receiver: Receiver, point_id: str, vm: str, *, accept_damage: bool) -> Browse:
    """Start a guest; what cannot be is said before."""
    plan = partial(find_wanted, receiver.catalog, receiver.store, point_id, vm, accept_damage=accept_damage)
    await asyncio.to_thread(plan)
    return receiver.browses.open(point_id, vm, plan)
