# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes of rehearsals: what they have shown, and having a point rehearsed."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Response, status
from pydantic import Field

from livebackup_receiver.api.auth import MayRead, ReceiverOf, requires
from livebackup_receiver.catalog import groups, rehearsals
from livebackup_receiver.catalog.tokens import Token
from livebackup_receiver.model import Model, PointRehearsal, Role
from livebackup_receiver.rehearsal.kept import find_log, find_result
from livebackup_receiver.rehearsal.result import Rehearsal
from livebackup_receiver.rehearsal.script import console_of, screenshot_of
from livebackup_receiver.state import Receiver

router = APIRouter(prefix="/api/v1", tags=["rehearsals"])

MayRehearse = Annotated[Token, Depends(requires(Role.RESTORE, Role.MANAGE))]
# A hostile guest has written both: a browser is to show them, and to run nothing of them.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
TEXT = "text/plain; charset=utf-8"
PICTURE = "image/png"


class Rehearsing(Model):
    """Which VMs are to be rehearsed, with all that they come after; null: all of them."""

    vms: Annotated[list[str], Field(min_length=1)] | None = None


class Rehearsals(Model):
    rehearsals: list[PointRehearsal]


@router.get("/groups/{group}/rehearsals")
def list_rehearsals(group: str, receiver: ReceiverOf, token: MayRead) -> Rehearsals:
    """The rehearsals of a group that are kept, newest first."""
    with receiver.catalog.read() as db:
        groups.require_group(db, group)
        return Rehearsals(rehearsals=rehearsals.list_rehearsals(db, group))


@router.post("/points/{point_id}/rehearsals", status_code=status.HTTP_202_ACCEPTED)
async def rehearse_point(
    point_id: str, rehearsing: Rehearsing, receiver: ReceiverOf, token: MayRehearse
) -> Rehearsal:
    """Have a point rehearsed, as soon as no session is open; 409 while another one is."""
    return await receiver.rehearser.ask(point_id, rehearsing.vms or ())


@router.get("/rehearsals/{rehearsal_id}")
async def get_rehearsal(rehearsal_id: str, receiver: ReceiverOf, token: MayRead) -> Rehearsal:
    """What a rehearsal has shown of each VM, or that it is running."""
    return await load_rehearsal(receiver, rehearsal_id)


@router.get(
    "/rehearsals/{rehearsal_id}/vms/{vm}/console",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
)
def get_console(rehearsal_id: str, vm: str, receiver: ReceiverOf, token: MayRead) -> Response:
    """The end of what a VM said on its console, as it said it."""
    return console(receiver, rehearsal_id, vm)


@router.get(
    "/rehearsals/{rehearsal_id}/vms/{vm}/screenshot",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}},
)
def get_screenshot(rehearsal_id: str, vm: str, receiver: ReceiverOf, token: MayRead) -> Response:
    """What a VM showed on its display at the end, or when it failed."""
    return screenshot(receiver, rehearsal_id, vm)


async def load_rehearsal(receiver: Receiver, rehearsal_id: str) -> Rehearsal:
    """The one that is running, or one that is kept.

    :raise RehearsalUnknown: there is no such rehearsal
    """
    running = receiver.rehearser.running
    if running is not None and running.id == rehearsal_id:
        return running
    return await asyncio.to_thread(find_result, receiver.store, rehearsal_id)


def console(receiver: Receiver, rehearsal_id: str, vm: str) -> Response:
    """:raise RehearsalUnknown: there is no such rehearsal, or it has no console of such a VM"""
    log = find_log(receiver.store, rehearsal_id, vm, console_of)
    return Response(log, media_type=TEXT, headers=HEADERS)


def screenshot(receiver: Receiver, rehearsal_id: str, vm: str) -> Response:
    """:raise RehearsalUnknown: there is no such rehearsal, or it has no picture of such a VM"""
    log = find_log(receiver.store, rehearsal_id, vm, screenshot_of)
    return Response(log, media_type=PICTURE, headers=HEADERS)
