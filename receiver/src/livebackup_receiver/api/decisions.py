# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes of what people decide about single points: pin, lock, drop."""

from __future__ import annotations

import logging
from typing import Annotated

from fastapi import APIRouter, status
from pydantic import Field

from livebackup_receiver.api.auth import MayManage, ReceiverOf
from livebackup_receiver.completion import complete_in_thread
from livebackup_receiver.model import Model, Moment, Point

log = logging.getLogger(__name__)

router = APIRouter(prefix="/api/v1/points", tags=["retention"])


class Pin(Model):
    """Why a point is kept, and until when; null: until the pin is taken away."""

    reason: Annotated[str, Field(min_length=1, max_length=200)]
    until: Moment | None = None


class Lock(Model):
    """Until when nobody may drop a point."""

    until: Moment


@router.put("/{point_id}/pin")
async def pin_point(point_id: str, pin: Pin, receiver: ReceiverOf, token: MayManage) -> Point:
    """Keep a point whatever the policies say, in place of the pin that it has."""
    point = await complete_in_thread(receiver.retention.pin, point_id, pin.reason, pin.until)
    log.info("point %s: pinned with token %s: %s", point_id, token.name, pin.reason)
    return point


@router.delete("/{point_id}/pin")
async def unpin_point(point_id: str, receiver: ReceiverOf, token: MayManage) -> Point:
    """Leave a point to the policies again."""
    point = await complete_in_thread(receiver.retention.unpin, point_id)
    log.info("point %s: unpinned with token %s", point_id, token.name)
    return point


@router.put("/{point_id}/lock")
async def lock_point(point_id: str, lock: Lock, receiver: ReceiverOf, token: MayManage) -> Point:
    """Let nobody drop a point before a date; 409 if it is locked for longer already."""
    point = await complete_in_thread(receiver.retention.lock, point_id, lock.until)
    log.info("point %s: locked with token %s until %s", point_id, token.name, lock.until)
    return point


@router.delete("/{point_id}", status_code=status.HTTP_204_NO_CONTENT)
async def drop_point(point_id: str, receiver: ReceiverOf, token: MayManage) -> None:
    """Drop a point on all its disks; its space comes back by itself.

    409 if it is pinned or locked, or if a policy's minimum would not be met without it.
    """
    await complete_in_thread(receiver.retention.drop, point_id)
    receiver.consolidator.wake()
    log.info("point %s: dropped by hand, with token %s", point_id, token.name)
