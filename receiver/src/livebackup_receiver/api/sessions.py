# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes of sessions: open, see, abort."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Query, status
from pydantic import Field

from livebackup_receiver.api.auth import MayBackUp, MaySeeSessions, ReceiverOf
from livebackup_receiver.coordinator.actors import Actor
from livebackup_receiver.coordinator.opening import Opening
from livebackup_receiver.model import Model, Session

router = APIRouter(prefix="/api/v1/sessions", tags=["sessions"])


class Sessions(Model):
    sessions: list[Session]


class Actors(Model):
    actors: list[Actor]


class Abort(Model):
    reason: Annotated[str, Field(min_length=1, max_length=1000)]


class Which(StrEnum):
    OPEN = "open"
    ENDED = "ended"


@router.post("", status_code=status.HTTP_201_CREATED)
async def open_session(opening: Opening, receiver: ReceiverOf, token: MayBackUp) -> Session:
    """Open a session of a group; 409 if the group has one already, 507 if the store is full."""
    return await receiver.sessions.open(opening)


@router.get("")
async def list_sessions(
    receiver: ReceiverOf,
    token: MaySeeSessions,
    group: str | None = None,
    state: Which | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Sessions:
    """Sessions, newest first."""
    ended = None if state is None else state is Which.ENDED
    return Sessions(sessions=await receiver.sessions.list(group=group, ended=ended, limit=limit))


@router.get("/{session_id}")
async def get_session(session_id: str, receiver: ReceiverOf, token: MaySeeSessions) -> Session:
    """One session, with its participants, disks and transitions."""
    return await receiver.sessions.get(session_id)


@router.get("/{session_id}/actors")
async def list_actors(session_id: str, receiver: ReceiverOf, token: MaySeeSessions) -> Actors:
    """What coordinator, hosts and storage daemon of a session last said, and what each waits for."""
    return Actors(actors=await receiver.sessions.actors(session_id))


@router.post("/{session_id}/abort")
async def abort_session(session_id: str, abort: Abort, receiver: ReceiverOf, token: MayBackUp) -> Session:
    """Abort a session; answers when its files are gone. 409 if it is committed already."""
    return await receiver.sessions.abort(session_id, abort.reason)
