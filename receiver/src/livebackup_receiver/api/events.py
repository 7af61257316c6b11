# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stream of changes, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from livebackup_receiver.api.auth import MaySeeSessions, ReceiverOf
from livebackup_receiver.events import Feed, SessionChanged
from livebackup_receiver.model import Model, SessionState

PING_S = 15

router = APIRouter(prefix="/api/v1/events", tags=["events"])


class Change(Model):
    """The data of an event `session`; read the session itself for more."""

    id: str
    group: str
    state: SessionState
    reason: str | None
    alarm: str | None = None


@router.get("", response_class=EventSourceResponse, responses={200: {"content": {"text/event-stream": {}}}})
async def stream_events(receiver: ReceiverOf, token: MaySeeSessions) -> Response:
    """An event `session` whenever a session changes its state or progress, from now on."""
    return EventSourceResponse(_events(receiver.feed), ping=PING_S)


async def _events(feed: Feed) -> AsyncIterator[ServerSentEvent]:
    with feed.subscribe() as changes:
        yield ServerSentEvent(comment="connected")
        async for change in changes:
            yield ServerSentEvent(event="session", data=_data(change))


def _data(change: SessionChanged) -> str:
    return Change(
        id=change.session,
        group=change.group,
        state=change.state,
        reason=change.reason,
        alarm=change.alarm,
    ).model_dump_json()
