# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the page answers: templates, headers, and errors as pages instead of JSON."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from livebackup_receiver import __version__
from livebackup_receiver.errors import ReceiverError, TokenInvalid
from livebackup_receiver.web import summaries, trail, wording

log = logging.getLogger(__name__)

HERE = Path(__file__).parent

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

Answer = Callable[[Request], Coroutine[Any, Any, Response]]


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters.update(wording.FILTERS)
    environment.filters.update(summaries.FILTERS)
    environment.filters.update(below=trail.below)
    environment.globals.update(version=__version__, viewer=None)
    return environment


ENVIRONMENT = _environment()


def page(template: str, *, status: int = 200, **facts: Any) -> HTMLResponse:
    """A rendered template; ``facts`` are its variables, ``now`` is always there."""
    html = ENVIRONMENT.get_template(template).render(now=datetime.now(UTC), **facts)
    return HTMLResponse(html, status)


class PageRoute(APIRoute):
    """A route for people: every answer gets the headers, every error becomes a page."""

    def get_route_handler(self) -> Answer:
        answer = super().get_route_handler()

        async def answer_people(request: Request) -> Response:
            try:
                response = await answer(request)
            except ReceiverError as error:
                response = explain(request, error)
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return answer_people


def explain(request: Request, error: ReceiverError) -> Response:
    """An error as people see it; who is not logged in is led to the login."""
    if isinstance(error, TokenInvalid):
        return to_login(request)
    if error.http_status >= 500:
        log.error("%s %s: %s", request.method, request.url.path, error)
    return page(
        "error.html", status=error.http_status, code=error.http_status, cause=error.cause, remedy=error.remedy
    )


def to_login(request: Request) -> Response:
    """To the login page; htmx and event streams cannot follow a redirect into another page by themselves."""
    if request.method == "GET" and "text/html" in request.headers.get("accept", "") and not _by_htmx(request):
        return RedirectResponse("/login", 303)
    return Response(status_code=401, headers={"HX-Redirect": "/login"})


def _by_htmx(request: Request) -> bool:
    return "hx-request" in request.headers
