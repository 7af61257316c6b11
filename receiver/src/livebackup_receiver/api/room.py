# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The route of the store's room; read only."""

from __future__ import annotations

import asyncio
from functools import partial

from fastapi import APIRouter

from livebackup_receiver.api.auth import MayRead, ReceiverOf
from livebackup_receiver.clock import now
from livebackup_receiver.model import Model
from livebackup_receiver.rooms import outlooks
from livebackup_receiver.store.outlook import Outlook

router = APIRouter(prefix="/api/v1/room", tags=["room"])


class Room(Model):
    volumes: list[Outlook]


@router.get("")
async def show_room(receiver: ReceiverOf, token: MayRead) -> Room:
    """Of the store and each further volume: what is used, what comes back, how long the rest will do."""
    look = partial(outlooks, receiver.config, receiver.catalog, now=now())
    return Room(volumes=await asyncio.to_thread(look))
