# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The route of a disk's digests at a point, by which a restore checks what it reads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, status
from fastapi.responses import StreamingResponse

from livebackup_receiver.api.auth import MayRestore, ReceiverOf
from livebackup_receiver.point_damage import require_sound_ranges
from livebackup_receiver.point_digests import DigestChain, find_chain, open_tables
from livebackup_receiver.restore import on_newest_chain
from livebackup_receiver.store.digests import Table, frames

MOST_LOOKED_AT = 1 << 30

router = APIRouter(prefix="/api/v1", tags=["exports"])


@router.get(
    "/points/{point_id}/vms/{vm}/disks/{disk}/digests",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
async def stream_point_digests(
    point_id: str, vm: str, disk: str, receiver: ReceiverOf, token: MayRestore
) -> StreamingResponse:
    """What a disk held at a point, as digests of its clusters.

    Frames of the number of the first cluster (8 bytes, little-endian), how many follow each other (4
    bytes) and 32 bytes for each: blake3 of its 65536 bytes, the last one filled up with zeros. Clusters that
    are zero are left out. The last frame has no digests, and the number of the disk's clusters.
    """
    tables = await on_newest_chain(lambda: find_chain(receiver, point_id, vm, disk), _tables)
    return StreamingResponse(frames(tables), media_type="application/octet-stream")


@router.get(
    "/points/{point_id}/vms/{vm}/disks/{disk}/damage",
    status_code=status.HTTP_204_NO_CONTENT,
)
async def look_for_damage(
    point_id: str,
    vm: str,
    disk: str,
    receiver: ReceiverOf,
    token: MayRestore,
    offset: Annotated[int, Query(ge=0)],
    length: Annotated[int, Query(ge=1, le=MOST_LOOKED_AT)],
) -> None:
    """Read a part of a disk back: 409, with the points at which it is whole, if it is not what it was."""
    await on_newest_chain(
        lambda: find_chain(receiver, point_id, vm, disk),
        lambda chain: asyncio.to_thread(
            require_sound_ranges, receiver, point_id, vm, disk, chain, [(offset, length)]
        ),
    )


async def _tables(chain: DigestChain) -> Sequence[Table]:
    return await asyncio.to_thread(open_tables, chain)
