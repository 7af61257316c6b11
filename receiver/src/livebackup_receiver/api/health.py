# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The route that says whether the receiver can work; needs no token."""

from __future__ import annotations

from enum import StrEnum

from fastapi import APIRouter

from livebackup_receiver import API_VERSION, __version__
from livebackup_receiver.api.auth import ReceiverOf
from livebackup_receiver.checks.result import CheckState, worst
from livebackup_receiver.model import Model

router = APIRouter(prefix="/api/v1", tags=["health"])


class Status(StrEnum):
    OK = "ok"
    DEGRADED = "degraded"


class Health(Model):
    status: Status
    version: str
    api_version: int


@router.get("/health")
async def get_health(receiver: ReceiverOf) -> Health:
    """ok; or degraded: a check has failed when the checks ran last, and they say which."""
    degraded = worst(receiver.checks.latest) is CheckState.FAILED
    return Health(
        status=Status.DEGRADED if degraded else Status.OK, version=__version__, api_version=API_VERSION
    )
