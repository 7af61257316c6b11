# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes of hypervisors: the steps of a participant, and the verdict on leftover bitmaps."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Body, Request, Response
from fastapi.responses import StreamingResponse

from livebackup_receiver.api.auth import MayBackUp, ReceiverOf
from livebackup_receiver.coordinator import heads
from livebackup_receiver.coordinator.orders import Answer
from livebackup_receiver.coordinator.reconcile import SeenBitmaps, Verdict
from livebackup_receiver.coordinator.reports import ReportedStep

router = APIRouter(prefix="/api/v1", tags=["participants"])


@router.post("/sessions/{session_id}/participants/{host}/steps", response_model=Answer)
async def take_step(
    session_id: str,
    host: str,
    step: Annotated[ReportedStep, Body()],
    request: Request,
    receiver: ReceiverOf,
    token: MayBackUp,
) -> Answer | Response:
    """Say where a participant is and wait, up to ``wait_s``, for what it does next.

    The same step may be sent again after a lost connection.
    """
    answering = asyncio.create_task(receiver.sessions.take_step(session_id, host, step))
    leaving = asyncio.create_task(_client_left(request))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        # One that has gone must not count as listening for the rest of its wait.
        return await answering if answering.done() else Response(status_code=204)
    finally:
        await _cancel(answering, leaving)


@router.get(
    "/sessions/{session_id}/participants/{host}/digests/{vm}/{disk}",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
async def stream_digests(
    session_id: str, host: str, vm: str, disk: str, receiver: ReceiverOf, token: MayBackUp
) -> StreamingResponse:
    """What a disk of the level resync held at the head, as digests of its clusters.

    Frames of the number of the first cluster (8 bytes, little-endian), how many follow each other (4
    bytes) and 32 bytes for each: blake3 of its 65536 bytes. Clusters that are zero are left out. The last
    frame has no digests, and the number of the disk's clusters at the head.
    """
    session = await receiver.sessions.get(session_id)
    frames = await asyncio.to_thread(
        heads.composed_digests, session, host, vm, disk, catalog=receiver.catalog, store=receiver.store
    )
    return StreamingResponse(frames, media_type="application/octet-stream")


@router.post("/reconcile")
async def reconcile(seen: SeenBitmaps, receiver: ReceiverOf, token: MayBackUp) -> Verdict:
    """Which checkpoint bitmaps a hypervisor's VMs keep and which they remove."""
    return await receiver.sessions.reconcile(seen)


async def _client_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _cancel(*tasks: asyncio.Task[Answer] | asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            if not task.done():
                await task
