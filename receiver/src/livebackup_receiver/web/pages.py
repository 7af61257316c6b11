# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The routes of the page: log in and out, the status, one point, one session, and what keeps them live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import RedirectResponse
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.staticfiles import StaticFiles

from livebackup_receiver.api.auth import ReceiverOf, authenticate
from livebackup_receiver.catalog.points import load_point, parents_kept
from livebackup_receiver.catalog.tokens import Token
from livebackup_receiver.errors import ReceiverError, RoleDenied, RouteUnknown
from livebackup_receiver.events import Feed
from livebackup_receiver.leases import load_leases
from livebackup_receiver.model import Point, Role
from livebackup_receiver.scrub import health
from livebackup_receiver.state import Receiver
from livebackup_receiver.web.answers import HERE, PageRoute, page
from livebackup_receiver.web.logins import COOKIE, LIFETIME_S
from livebackup_receiver.web.overview import SECTIONS, Facts
from livebackup_receiver.web.signals import signal_of

READERS = (Role.READ, Role.RESTORE, Role.MANAGE)
PING_S = 15

router = APIRouter(route_class=PageRoute, include_in_schema=False)
assets = StaticFiles(directory=HERE / "static")


async def _reader(request: Request, secret: str | None) -> Token:
    token = await authenticate(request, secret)
    if token.role not in READERS:
        raise RoleDenied(token.name, token.role, " or ".join(READERS))
    return token


async def _viewer(request: Request, receiver: ReceiverOf) -> Token:
    return await _reader(request, receiver.logins.secret(request.cookies.get(COOKIE)))


Viewer = Annotated[Token, Depends(_viewer)]


@router.get("/login")
async def show_login() -> Response:
    return page("login.html", error=None)


@router.post("/login")
async def log_in(request: Request, receiver: ReceiverOf, token: Annotated[str, Form()] = "") -> Response:
    """Exchange a token for a cookie."""
    try:
        await _reader(request, token.strip())
    except ReceiverError as error:
        return page("login.html", status=error.http_status, error=error.cause)
    answer = RedirectResponse("/", 303)
    answer.set_cookie(
        COOKIE,
        receiver.logins.start(token.strip()),
        max_age=LIFETIME_S,
        secure=True,
        httponly=True,
        samesite="strict",
    )
    return answer


@router.post("/logout")
async def log_out(request: Request, receiver: ReceiverOf) -> Response:
    """End the login of this browser."""
    receiver.logins.end(request.cookies.get(COOKIE))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, secure=True, httponly=True, samesite="strict")
    return answer


@router.get("/")
async def show_status(receiver: ReceiverOf, viewer: Viewer) -> Response:
    facts: Facts = {}
    for load in SECTIONS.values():
        facts |= await load(receiver)
    return page("status.html", viewer=viewer, sections=list(SECTIONS), fragment=False, **facts)


@router.get("/status/{section}")
async def show_section(section: str, receiver: ReceiverOf, viewer: Viewer) -> Response:
    """One section of the status page, for replacing it in place."""
    if section not in SECTIONS:
        raise RouteUnknown(f"/status/{section}")
    return page(f"sections/{section}.html", fragment=True, **await SECTIONS[section](receiver))


@router.get("/points/{point_id}")
async def show_point(point_id: str, receiver: ReceiverOf, viewer: Viewer) -> Response:
    point, parents = await asyncio.to_thread(_load_point, receiver, point_id)
    found = await asyncio.to_thread(health.disk_states, receiver.catalog, receiver.store, point)
    states = {(each.vm, each.disk): each.model_dump(mode="json") for each in found}
    shown = point.model_dump(mode="json")
    leases = await asyncio.to_thread(load_leases, receiver.store)
    uses = [lease.words for lease in leases if lease.point == point.id]
    return page("point.html", viewer=viewer, point=shown, parents=parents, states=states, uses=uses)


@router.get("/sessions/{session_id}")
async def show_session(session_id: str, receiver: ReceiverOf, viewer: Viewer) -> Response:
    session = await receiver.sessions.get(session_id)
    return page("session.html", viewer=viewer, session=session.model_dump(mode="json"))


@router.get("/live")
async def stream(receiver: ReceiverOf, viewer: Viewer) -> Response:
    """Tells an open page what to load anew; it carries no facts itself."""
    return EventSourceResponse(_signals(receiver.feed), ping=PING_S)


@router.get("/static/{path:path}")
async def serve_asset(path: str, request: Request) -> Response:
    answer = await assets.get_response(path, request.scope)
    # The browser may keep it, but asks each time whether it is still the same.
    answer.headers["Cache-Control"] = "no-cache"
    return answer


async def _signals(feed: Feed) -> AsyncIterator[ServerSentEvent]:
    with feed.subscribe() as changes:
        yield ServerSentEvent(comment="connected")
        async for change in changes:
            if name := signal_of(change):
                yield ServerSentEvent(event=name, data=change.session)


def _load_point(receiver: Receiver, point_id: str) -> tuple[Point, set[str]]:
    """A point, and those of its parents that have a page."""
    with receiver.catalog.read() as db:
        point = load_point(db, point_id)
        return point, parents_kept(db, point)
