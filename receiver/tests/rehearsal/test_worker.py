# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running receiver rehearses what is due or asked for; API, metrics and checks say what came of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from rehearsal_guests import add_point, member, plan, waiting
from sample_store import SampleStore
from serving import Served
from waiting import until

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.points import load_point
from livebackup_receiver.catalog.rehearsals import list_rehearsals
from livebackup_receiver.config import Config
from livebackup_receiver.daemon import open_receiver
from livebackup_receiver.model import Outcome, Point, PointRehearsal, Role
from livebackup_receiver.recovery.declared import DeclaredPlan, read_plan
from livebackup_receiver.rehearsal.choice import due_at
from livebackup_receiver.rehearsal.kept import read_result
from livebackup_receiver.store.paths import Store

pytestmark = pytest.mark.timeout(300)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def point(store: SampleStore) -> Point:
    return add_point(store, {"db": "<b>db</b> is up"})


async def ended(catalog: Catalog) -> list[PointRehearsal]:
    with catalog.read() as db:
        return list_rehearsals(db, "nightly")


async def test_what_is_due_is_rehearsed_once(config: Config, catalog: Catalog, point: Point) -> None:
    plan(catalog, config, member("db"), schedule="every 1w")
    async with open_receiver(config) as receiver:
        (found,) = await until(lambda: ended(receiver.catalog), timeout_s=200)
        assert found.outcome is Outcome.PASSED
        with receiver.catalog.read() as db:
            assert load_point(db, point.id).rehearsal == found
        (check,) = (each for each in await receiver.checks.run() if each.name == "rehearsal of nightly")
        assert check.state == "ok"
    # the next one is due in a week
    async with open_receiver(config) as receiver:
        await asyncio.sleep(0.5)
        assert receiver.rehearser.running is None


async def test_stopped_with_the_receiver_it_could_not_run(
    config: Config, catalog: Catalog, point: Point
) -> None:
    plan(catalog, config, waiting("db", timeout_s=600))
    async with open_receiver(config) as receiver:
        begun = await receiver.rehearser.ask(point.id)
    found = read_result(Store(config.store), begun.id)
    assert (found.outcome, found.reason) == (
        Outcome.COULD_NOT_RUN,
        "the receiver was stopped before it was done",
    )


async def outcome_of(client: httpx.AsyncClient, rehearsal: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        found: dict[str, Any] = (await client.get(f"/api/v1/rehearsals/{rehearsal}")).json()
        return found if found["outcome"] != "running" else None

    return await until(look, timeout_s=200)


async def test_a_rehearsal_is_asked_for_and_shown_over_the_api(
    server: Served, catalog: Catalog, store: SampleStore
) -> None:
    point = add_point(store, {"db": "<b>db</b> is up"})
    plan(catalog, server.receiver.config, member("db"))
    async with server.client(Role.RESTORE) as client:
        asked = await client.post(f"/api/v1/points/{point.id}/rehearsals", json={})
        again = await client.post(f"/api/v1/points/{point.id}/rehearsals", json={})
        assert (asked.status_code, asked.json()["outcome"]) == (202, "running")
        assert again.json()["error"]["code"] == "rehearsal-running"
        found = await outcome_of(client, asked.json()["id"])
        shown = (await client.get(f"/api/v1/points/{point.id}")).json()["rehearsal"]
        listed = (await client.get("/api/v1/groups/nightly/rehearsals")).json()["rehearsals"]
        console = await client.get(f"/api/v1/rehearsals/{found['id']}/vms/db/console")
        picture = await client.get(f"/api/v1/rehearsals/{found['id']}/vms/db/screenshot")
        metrics = (await client.get("/metrics")).text
    assert (found["outcome"], found["members"][0]["vm"]) == ("passed", "db")
    assert listed == [shown]
    assert shown["id"] == found["id"]
    assert console.text.endswith("<b>db</b> is up")
    assert console.headers["content-type"] == "text/plain; charset=utf-8"
    assert picture.content.startswith(b"\x89PNG")
    assert picture.headers["content-type"] == "image/png"
    for answer in (console, picture):
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert 'livebackup_rehearsal{group="nightly",outcome="passed"} 1.0' in metrics


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/v1/rehearsals/01JD2M3V5W6X7Y8Z9A0B1C2D3E", "rehearsal-unknown"),
        ("/api/v1/rehearsals/running", "rehearsal-unknown"),
        ("/api/v1/rehearsals/01JD2M3V5W6X7Y8Z9A0B1C2D3E/vms/db/console", "rehearsal-unknown"),
        ("/api/v1/rehearsals/01JD2M3V5W6X7Y8Z9A0B1C2D3E/vms/..%2fdb/console", "route-unknown"),
        ("/api/v1/groups/daily/rehearsals", "group-unknown"),
    ],
)
async def test_what_is_not_there_is_said(server: Served, path: str, code: str) -> None:
    async with server.client(Role.READ) as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, code)


@pytest.mark.parametrize("role", [Role.READ, Role.BACKUP])
async def test_only_who_restores_or_manages_may_rehearse(server: Served, role: Role) -> None:
    async with server.client(role) as client:
        answer = await client.post("/api/v1/points/01JD2M3V5W6X7Y8Z9A0B1C2D3E/rehearsals", json={})
    assert answer.json()["error"]["code"] == "role-denied"


def declared(**facts: Any) -> DeclaredPlan:
    return DeclaredPlan(group="nightly", plan=read_plan(facts), changed_at=NOON)


def test_a_group_is_due_by_its_schedule_and_never_without_one() -> None:
    daily = declared(schedule="daily at 04:00", time_zone="Europe/Berlin")
    assert due_at(daily, None) == datetime(2026, 3, 2, 3, tzinfo=UTC)
    assert due_at(daily, NOON + timedelta(days=3)) == datetime(2026, 3, 5, 3, tzinfo=UTC)
    assert due_at(declared(schedule="every 1w"), NOON + timedelta(days=1)) == NOON + timedelta(days=8)
    assert due_at(declared(), None) is None
