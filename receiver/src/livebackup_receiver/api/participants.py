# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes of hypervisors: the steps of a participant, and the verdict on leftover bitmaps."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Body, Request, Response

from livebackup_receiver.api.auth import MayBackUp, ReceiverOf
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
