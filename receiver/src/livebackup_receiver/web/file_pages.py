# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages on which a VM's files at a point are looked at and taken out; for the role restore only.

Everything that a guest has named is shown as ``browse.names`` writes it, and asked for by the same text.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse

from livebackup_receiver.api.auth import ReceiverOf, authenticate
from livebackup_receiver.api.browses import start_browse
from livebackup_receiver.browse.answers import content_answer
from livebackup_receiver.browse.live import Browse, BrowseState
from livebackup_receiver.catalog.points import load_point
from livebackup_receiver.catalog.tokens import Token
from livebackup_receiver.errors import BrowseUnknown, PointDamaged, ReceiverError, RoleDenied
from livebackup_receiver.model import Model, Role
from livebackup_receiver.restore import select_disks
from livebackup_receiver.state import Receiver
from livebackup_receiver.web.answers import PageRoute, page
from livebackup_receiver.web.logins import COOKIE
from livebackup_receiver.web.overview import Facts
from livebackup_receiver.web.trail import trail_of

SHOWN = 500

router = APIRouter(prefix="/points/{point}/files/{vm}", route_class=PageRoute, include_in_schema=False)


async def _restorer(request: Request, receiver: ReceiverOf) -> Token:
    token = await authenticate(request, receiver.logins.secret(request.cookies.get(COOKIE)))
    if token.role is not Role.RESTORE:
        raise RoleDenied(token.name, token.role, Role.RESTORE)
    return token


Restorer = Annotated[Token, Depends(_restorer)]


class Place(Model):
    """Where somebody looks: without a file system, at all of them."""

    file_system: str = ""
    path: str = "/"
    offset: Annotated[int, Query(ge=0)] = 0


PlaceInQuery = Annotated[Place, Query()]


@router.get("")
async def show_files(
    point: str, vm: str, place: PlaceInQuery, receiver: ReceiverOf, viewer: Restorer
) -> Response:
    """File systems, or a directory; a guest that does not run yet is started by the page itself."""
    group = await asyncio.to_thread(_require_vm, receiver, point, vm)
    facts: Facts = {"viewer": viewer, "point": point, "vm": vm, "group": group}
    browse = receiver.browses.find(point, vm)
    if browse is None or browse.state is not BrowseState.READY:
        return page("files_start.html", **facts)
    async with receiver.browses.use(browse.id) as guest:
        if not place.file_system:
            found = [each.model_dump(mode="json") for each in guest.file_systems]
            return page("file_systems.html", file_systems=found, **facts)
        listing = await guest.list(place.file_system, place.path, offset=place.offset, limit=SHOWN)
    return page(
        "directory.html",
        listing=listing.model_dump(mode="json"),
        trail=trail_of(listing.path),
        next_offset=place.offset + SHOWN if place.offset + SHOWN < listing.total else None,
        **facts,
    )


@router.post("/open")
async def open_files(
    point: str, vm: str, receiver: ReceiverOf, viewer: Restorer, accept_damage: bool = False
) -> Response:
    """Start the guest, or say why it cannot be; a part of the page."""
    failed = receiver.browses.find(point, vm)
    if failed and failed.state is BrowseState.FAILED:
        await receiver.browses.close(failed.id)
    try:
        browse = await start_browse(receiver, point, vm, accept_damage=accept_damage)
    except ReceiverError as error:
        damaged = isinstance(error, PointDamaged)
        return _state(point, vm, None, problem=str(error), damaged=damaged)
    return _state(point, vm, browse)


@router.get("/state")
async def show_state(point: str, vm: str, receiver: ReceiverOf, viewer: Restorer) -> Response:
    """How far the guest is; a part of the page, which is loaded anew as soon as there is more to see."""
    browse = receiver.browses.find(point, vm)
    if browse is None:
        return _state(point, vm, None, problem=str(BrowseUnknown(f"VM {vm} at point {point}")))
    return _state(point, vm, browse)


@router.post("/close")
async def close_files(point: str, vm: str, receiver: ReceiverOf, viewer: Restorer) -> Response:
    """End the guest."""
    if browse := receiver.browses.find(point, vm):
        await receiver.browses.close(browse.id)
    return RedirectResponse(f"/points/{point}", 303)


@router.get("/content")
async def get_file(
    point: str, vm: str, place: PlaceInQuery, receiver: ReceiverOf, viewer: Restorer
) -> Response:
    """A file, or a directory as a tar archive."""
    browse = receiver.browses.find(point, vm)
    if browse is None:
        raise BrowseUnknown(f"VM {vm} at point {point}")
    return await content_answer(receiver.browses, browse.id, place.file_system, place.path)


def _state(
    point: str, vm: str, browse: Browse | None, *, problem: str | None = None, damaged: bool = False
) -> Response:
    problem = browse.problem if browse else problem
    facts: Facts = {"point": point, "vm": vm, "problem": problem, "damaged": damaged}
    answer = page("sections/files_state.html", **facts)
    if browse and browse.state is BrowseState.READY:
        answer.headers["HX-Refresh"] = "true"
    return answer


def _require_vm(receiver: Receiver, point_id: str, vm: str) -> str:
    """The group of a point that has the VM.

    :raise PointUnknown: there is no such point
    :raise VmUnknown: it has not
    """
    with receiver.catalog.read() as db:
        point = load_point(db, point_id)
    select_disks(point, vm, None)
    return point.group
