# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The application: the table of routers, and the one place where errors become HTTP answers."""

from __future__ import annotations

import logging

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from livebackup_receiver import __version__, metrics
from livebackup_receiver.api import (
    browses,
    checks,
    decisions,
    digests,
    events,
    exports,
    groups,
    health,
    leases,
    participants,
    points,
    policies,
    recovery_order,
    recovery_plans,
    rehearsals,
    retention,
    room,
    sessions,
    vms,
)
from livebackup_receiver.api.auth import TokenCache
from livebackup_receiver.errors import BodyInvalid, CatalogFailed, ReceiverError, RouteUnknown, StoreFailed
from livebackup_receiver.model import Model
from livebackup_receiver.state import Receiver
from livebackup_receiver.web import file_pages, group_pages, pages, rehearsal_pages, vm_pages

log = logging.getLogger(__name__)

ROUTERS: tuple[APIRouter, ...] = (
    health.router,
    sessions.router,
    participants.router,
    points.router,
    decisions.router,
    policies.router,
    retention.router,
    exports.router,
    digests.router,
    leases.router,
    browses.router,
    groups.router,
    vms.router,
    recovery_plans.router,
    recovery_order.router,
    rehearsals.router,
    checks.router,
    room.router,
    events.router,
    metrics.router,
    pages.router,
    group_pages.router,
    vm_pages.router,
    file_pages.router,
    rehearsal_pages.router,
)


class ErrorBody(Model):
    """The body of every answer that is an error; ``message`` contains the remedy in words."""

    class Facts(Model):
        code: str
        message: str
        remedy: str

    error: Facts


def create_app(receiver: Receiver) -> FastAPI:
    """The HTTP application of a running receiver."""
    app = routed_app()
    app.state.receiver = receiver
    app.state.tokens = TokenCache(receiver.catalog)
    return app


def routed_app() -> FastAPI:
    """The application without a receiver behind it: enough for its OpenAPI document."""
    app = FastAPI(
        title="Livebackup receiver",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        responses={"default": {"model": ErrorBody, "description": "What went wrong and what to do"}},
    )
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(Exception, answer_error)
    for kind in (ReceiverError, RequestValidationError, HTTPException, OSError, OperationalError):
        app.add_exception_handler(kind, answer_error)
    return app


def error_body(error: ReceiverError) -> ErrorBody:
    """The JSON shape of an error."""
    return ErrorBody(error=ErrorBody.Facts(code=error.code, message=str(error), remedy=error.remedy))


async def answer_error(request: Request, problem: Exception) -> JSONResponse:
    """Translate any error into its status and JSON body."""
    error = _as_ours(request, problem)
    if error.http_status >= 500:
        unforeseen = problem if error.code == ReceiverError.code else None
        log.error("%s %s: %s", request.method, request.url.path, unforeseen or error, exc_info=unforeseen)
    status = problem.status_code if isinstance(problem, HTTPException) else error.http_status
    return JSONResponse(error_body(error).model_dump(), status)


def _as_ours(request: Request, problem: Exception) -> ReceiverError:
    if isinstance(problem, ReceiverError):
        return problem
    if isinstance(problem, RequestValidationError):
        first = problem.errors()[0]
        return BodyInvalid(where=".".join(str(part) for part in first["loc"]), problem=first["msg"])
    if isinstance(problem, HTTPException):
        return RouteUnknown(f"{request.method} {request.url.path}")
    return _failed_disk(request.app.state.receiver, problem) or ReceiverError()


def _failed_disk(receiver: Receiver, problem: Exception) -> ReceiverError | None:
    """What failed below us, which its operator can mend."""
    # a peer that is slow or gone is an OSError, too
    if isinstance(problem, OSError) and not isinstance(problem, (ConnectionError, TimeoutError)):
        return StoreFailed(str(receiver.store.root), problem.strerror or str(problem))
    if isinstance(problem, OperationalError):
        return CatalogFailed(receiver.catalog.url, str(problem.orig))
    return None
