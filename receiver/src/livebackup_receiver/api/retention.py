# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes of retention: verdicts, applying them, and what will exist on any date."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from livebackup_receiver.api.auth import MayManage, MayRead, ReceiverOf
from livebackup_receiver.api.leisure import at_leisure
from livebackup_receiver.completion import complete_in_thread
from livebackup_receiver.model import Model, Moment
from livebackup_receiver.retention.declared import ProposedPolicy
from livebackup_receiver.retention.outlook import ForecastAsked, RetentionForecast
from livebackup_receiver.retention.plan import RetentionApplied, RetentionPlan, RetentionPreview
from livebackup_receiver.state import Receiver

router = APIRouter(prefix="/api/v1", tags=["retention"])


class Proposal(Model):
    """Policies that might be declared; the others stay as they are."""

    policies: Annotated[list[ProposedPolicy], Field(min_length=1)]


@router.get("/groups/{group}/retention", response_model=RetentionPlan)
def plan_retention(group: str, receiver: ReceiverOf, token: MayRead) -> Response:
    """A verdict for each point of a group, newest first, with every rule that keeps it."""
    return _rendered(receiver.retention.plan(group))


@router.post("/groups/{group}/retention/apply")
async def apply_retention(group: str, receiver: ReceiverOf, token: MayManage) -> RetentionApplied:
    """Judge a group's points anew and drop those that no rule keeps."""
    applied = await complete_in_thread(receiver.retention.apply, group)
    if applied.dropped:
        receiver.consolidator.wake()
    return applied


@router.get("/groups/{group}/retention/simulation", response_model=RetentionForecast)
async def simulate_retention(
    group: str,
    receiver: ReceiverOf,
    token: MayRead,
    schedule: Annotated[str | None, Query(description='Such as "every 1h" or "daily at 02:00".')] = None,
    until: Annotated[Moment | None, Query(description="The end; a year from now, if not given.")] = None,
) -> Response:
    """What a group will hold on any date, and what it will take, by the policies that are declared."""
    asked = ForecastAsked(schedule=schedule, until=until)
    return await asyncio.to_thread(_rendered, await foresee(receiver, group, asked))


@router.post("/groups/{group}/retention/simulation", response_model=RetentionForecast)
async def simulate_policies(
    group: str, asked: ForecastAsked, receiver: ReceiverOf, token: MayRead
) -> Response:
    """The same, by policies that might be declared."""
    return await asyncio.to_thread(_rendered, await foresee(receiver, group, asked))


@router.post("/retention/preview", response_model=RetentionPreview)
def preview_retention(proposal: Proposal, receiver: ReceiverOf, token: MayRead) -> Response:
    """What would be dropped now, of all groups, if these policies were declared; nothing is changed."""
    return _rendered(receiver.retention.preview(proposal.policies))


async def foresee(receiver: Receiver, group: str, asked: ForecastAsked) -> RetentionForecast:
    """A forecast, which gives way to sessions."""
    return await at_leisure(
        receiver, lambda leisure: receiver.retention.foresee(group, asked, breathe=leisure)
    )


def _rendered(answer: Model) -> Response:
    """An answer as JSON; megabytes of it are made in a thread, and not between other requests."""
    return Response(answer.model_dump_json(), media_type="application/json")
