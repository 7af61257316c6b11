# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of a group: what is kept and why, and what there will be."""

from __future__ import annotations

import asyncio
from datetime import date, datetime, timedelta
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response

from livebackup_receiver.api.auth import ReceiverOf
from livebackup_receiver.api.retention import foresee
from livebackup_receiver.catalog.recovery_plans import find_plan
from livebackup_receiver.catalog.rehearsals import newest_whole
from livebackup_receiver.clock import now
from livebackup_receiver.errors import Refused, RetentionInvalid
from livebackup_receiver.model import Model, PointRehearsal, rfc3339
from livebackup_receiver.recovery.declared import DeclaredPlan
from livebackup_receiver.recovery.order import stages
from livebackup_receiver.recovery.plan import RecoveryPlan
from livebackup_receiver.rehearsal.choice import due_at
from livebackup_receiver.retention.outlook import ForecastAsked, RetentionForecast, by_month
from livebackup_receiver.retention.plan import RetentionPlan
from livebackup_receiver.state import Receiver
from livebackup_receiver.web.answers import PageRoute, page
from livebackup_receiver.web.chart import chart_of
from livebackup_receiver.web.overview import Facts, plain
from livebackup_receiver.web.pages import Viewer

VERDICTS_SHOWN = 500
HORIZON = timedelta(days=90)

router = APIRouter(route_class=PageRoute, include_in_schema=False)


class Asked(Model):
    """What the form asks for; what is empty is left to the group's history."""

    schedule: str = ""
    until: str = ""

    @property
    def query(self) -> str:
        return urlencode({name: value for name, value in self.model_dump().items() if value})


AskedInQuery = Annotated[Asked, Query()]


@router.get("/groups/{group}")
async def show_group(group: str, asked: AskedInQuery, receiver: ReceiverOf, viewer: Viewer) -> Response:
    plan = await asyncio.to_thread(receiver.retention.plan, group)
    until = asked.until or (now() + HORIZON).date().isoformat()
    facts = (
        _plan_facts(plan)
        | await _rehearsal_facts(receiver, group)
        | {"automatic": receiver.config.retention_automatic}
    )
    return page("group.html", viewer=viewer, asked=asked.model_copy(update={"until": until}), **facts)


@router.get("/groups/{group}/forecast")
async def show_forecast(group: str, asked: AskedInQuery, receiver: ReceiverOf, viewer: Viewer) -> Response:
    """The part of the page that takes its time."""
    try:
        forecast = await foresee(receiver, group, _forecast_asked(asked))
    except Refused as error:
        return page("sections/forecast.html", problem=str(error))
    return page("sections/forecast.html", problem=None, **_forecast_facts(forecast))


async def _rehearsal_facts(receiver: Receiver, group: str) -> Facts:
    """The newest rehearsal of all VMs, when the next is due, and in which stages they are brought up."""
    newest, declared = await asyncio.to_thread(_look_up, receiver, group)
    running = receiver.rehearser.running
    due = due_at(declared, newest.started_at if newest else None) if declared else None
    plan = declared.plan if declared else RecoveryPlan()
    return {
        "rehearsal": newest.model_dump(mode="json") if newest else None,
        "running": running.id if running and running.group == group else None,
        "planned": declared is not None,
        "due": rfc3339(due) if due else None,
        "order": [" and ".join(stage) for stage in stages(plan, [each.vm for each in plan.members])],
    }


def _look_up(receiver: Receiver, group: str) -> tuple[PointRehearsal | None, DeclaredPlan | None]:
    with receiver.catalog.read() as db:
        return newest_whole(db, group), find_plan(db, group)


def _plan_facts(plan: RetentionPlan) -> Facts:
    going = sum(not each.keep for each in plan.verdicts)
    return {
        "group": plan.group,
        "policies": [
            {**each.model_dump(mode="json"), "words": each.policy.describe()} for each in plan.policies
        ],
        "verdicts": plain(plan.verdicts[:VERDICTS_SHOWN]),
        "left_off": max(len(plan.verdicts) - VERDICTS_SHOWN, 0),
        "kept": len(plan.verdicts) - going,
        "going": going,
    }


def _forecast_asked(asked: Asked) -> ForecastAsked:
    try:
        end = datetime.combine(date.fromisoformat(asked.until), datetime.min.time()) if asked.until else None
    except ValueError:
        raise RetentionInvalid(f"{asked.until!r} is not a date", "write one such as 2027-01-01") from None
    return ForecastAsked(schedule=asked.schedule or None, until=end or now() + HORIZON)


def _forecast_facts(forecast: RetentionForecast) -> Facts:
    return {
        "forecast": forecast.model_dump(mode="json", exclude={"points", "steps"}),
        "months": plain(by_month(forecast.steps)),
        "chart": chart_of(forecast.steps),
    }
