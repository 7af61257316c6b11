# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The route of the checks; read only."""

from __future__ import annotations

from fastapi import APIRouter

from livebackup_receiver.api.auth import MayRead, ReceiverOf
from livebackup_receiver.checks.result import Check
from livebackup_receiver.model import Model

router = APIRouter(prefix="/api/v1/checks", tags=["checks"])


class Checks(Model):
    checks: list[Check]


@router.get("")
async def list_checks(receiver: ReceiverOf, token: MayRead) -> Checks:
    """Every check with its state now; they are run for this answer."""
    return Checks(checks=await receiver.checks.run())
