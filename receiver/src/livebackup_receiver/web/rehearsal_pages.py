# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of a rehearsal: what became of each VM, its console and its display."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response

from livebackup_receiver.api import rehearsals
from livebackup_receiver.api.auth import ReceiverOf
from livebackup_receiver.web.answers import PageRoute, page
from livebackup_receiver.web.pages import Viewer

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/rehearsals/{rehearsal_id}")
async def show_rehearsal(rehearsal_id: str, receiver: ReceiverOf, viewer: Viewer) -> Response:
    found = await rehearsals.load_rehearsal(receiver, rehearsal_id)
    return page("rehearsal.html", viewer=viewer, rehearsal=found.model_dump(mode="json"))


@router.get("/rehearsals/{rehearsal_id}/{vm}/console")
async def show_console(rehearsal_id: str, vm: str, receiver: ReceiverOf, viewer: Viewer) -> Response:
    return await asyncio.to_thread(rehearsals.console, receiver, rehearsal_id, vm)


@router.get("/rehearsals/{rehearsal_id}/{vm}/screenshot")
async def show_screenshot(rehearsal_id: str, vm: str, receiver: ReceiverOf, viewer: Viewer) -> Response:
    return await asyncio.to_thread(rehearsals.screenshot, receiver, rehearsal_id, vm)
