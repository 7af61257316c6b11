# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts, their application, and forecasts over the API."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from held_points import DAY, HOUR, declare, hold, point_ids
from hypervisor import open_session
from serving import Served
from two_hosts import make_disks, make_hosts

from livebackup_receiver.api import leisure
from livebackup_receiver.model import Role, rfc3339

PLAN = "/api/v1/groups/nightly/retention"


async def test_each_verdict_names_the_rules_that_keep_a_point(server: Served) -> None:
    made = hold(server.receiver.catalog, 4, vms=("web", "db"))
    async with server.client(Role.MANAGE) as client:
        await declare(client, keep_last=2, daily=3)
        await declare(client, "vm:elsewhere", daily=1)
        plan = (await client.get(PLAN)).json()
    assert [each["scope"] for each in plan["policies"]] == ["group:nightly"]
    assert [each["point"] for each in plan["verdicts"]] == [each.id for each in made]
    assert [each["keep"] for each in plan["verdicts"]] == [True, True, True, False]
    second, third, last = plan["verdicts"][1:]
    assert second["rules"] == ["last 2 (2nd)", f"daily {made[1].cut_at:%Y-%m-%d}"]
    assert third["rules"] == [f"daily {made[2].cut_at:%Y-%m-%d}"]
    assert (last["rules"], last["vms"], last["complete"]) == ([], ["db", "web"], True)


async def test_what_is_shown_is_what_is_dropped(server: Served) -> None:
    hold(server.receiver.catalog, 30, HOUR)
    async with server.client(Role.MANAGE) as client:
        await declare(client, keep_last=1, hourly=6)
        verdicts = (await client.get(PLAN)).json()["verdicts"]
        applied = (await client.post(f"{PLAN}/apply")).json()
        left = await point_ids(client)
        again = (await client.post(f"{PLAN}/apply")).json()
    assert applied == {
        "group": "nightly",
        "dropped": [each["point"] for each in verdicts if not each["keep"]],
        "kept": 6,
    }
    assert left == [each["point"] for each in verdicts if each["keep"]]
    assert (again["dropped"], again["kept"]) == ([], 6)


async def test_without_a_policy_nothing_is_dropped(server: Served) -> None:
    hold(server.receiver.catalog, 3)
    async with server.client(Role.MANAGE) as client:
        plan = (await client.get(PLAN)).json()
        assert (await client.post(f"{PLAN}/apply")).json()["dropped"] == []
    assert (plan["policies"], plan["verdicts"][-1]["rules"]) == ([], ["no policy"])


async def test_pins_are_never_lost_to_an_application_at_the_same_time(server: Served) -> None:
    made = hold(server.receiver.catalog, 40, HOUR)
    async with server.client(Role.MANAGE) as client:
        await declare(client, keep_last=1)

        async def pin(point: str) -> int:
            answer = await client.put(f"/api/v1/points/{point}/pin", json={"reason": "why"})
            return answer.status_code

        pins = [asyncio.create_task(pin(each.id)) for each in made[1:]]
        applied = (await client.post(f"{PLAN}/apply")).json()
        answers = dict(zip([each.id for each in made[1:]], await asyncio.gather(*pins), strict=True))
        left = set(await point_ids(client))
    assert left == {made[0].id} | {point for point, status in answers.items() if status == 200}
    assert set(applied["dropped"]) == {point for point, status in answers.items() if status == 404}


async def test_a_group_that_was_never_backed_up(server: Served) -> None:
    async with server.client(Role.MANAGE) as client:
        for method, path in (("GET", ""), ("POST", "/apply"), ("GET", "/simulation?schedule=every+1h")):
            answer = await client.request(method, f"/api/v1/groups/weekly/retention{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "group-unknown"), path


async def test_a_preview_shows_what_a_policy_would_drop_of_all_groups(server: Served) -> None:
    nightly = hold(server.receiver.catalog, 3)
    weekly = hold(server.receiver.catalog, 2, last=nightly[0].cut_at - HOUR, group="weekly")
    hold(server.receiver.catalog, 2, last=nightly[0].cut_at - 2 * HOUR, group="other", vms=("web",))
    proposal = {"policies": [{"scope": "vm:db", "policy": {"keep_last": 1}}]}
    async with server.client(Role.READ) as client:
        preview = (await client.post("/api/v1/retention/preview", json=proposal)).json()
        policies = (await client.get("/api/v1/policies")).json()["policies"]
    assert preview["before"] == []
    assert [each["point"] for each in preview["after"]] == [nightly[1].id, nightly[2].id, weekly[1].id]
    assert preview["after"][-1] == {
        "group": "weekly",
        "point": weekly[1].id,
        "cut_at": rfc3339(weekly[1].cut_at),
        "vms": ["db"],
    }
    assert policies == []


async def test_a_preview_of_no_policy_shows_that_nothing_would_go(server: Served) -> None:
    made = hold(server.receiver.catalog, 3)
    async with server.client(Role.MANAGE) as client:
        await declare(client)
        proposal = {"policies": [{"scope": "group:nightly", "policy": None}]}
        preview = (await client.post("/api/v1/retention/preview", json=proposal)).json()
    assert [each["point"] for each in preview["before"]] == [made[2].id]
    assert preview["after"] == []


async def test_a_simulation_says_what_there_will_be(server: Served) -> None:
    hold(server.receiver.catalog, 4, DAY)
    until = datetime.now(UTC) + 30 * DAY
    async with server.client(Role.MANAGE) as client:
        await declare(client, daily=7)
        query = {"schedule": "every 1d", "until": rfc3339(until)}
        forecast = (await client.get(f"{PLAN}/simulation", params=query)).json()
        tried = (
            await client.post(
                f"{PLAN}/simulation",
                json={**query, "policies": [{"scope": "group:nightly", "policy": {"daily": 3}}]},
            )
        ).json()
    assert forecast["schedule"] == "every 1d"
    assert forecast["policies"] == [{"scope": "group:nightly", "words": "7 daily (UTC), at least 1"}]
    assert [forecast["steps"][place]["count"] for place in (0, 1, -1)] == [4, 5, 7]
    assert (forecast["peak"]["count"], forecast["peak"]["estimated_bytes"]) == (4, 4 << 20)
    assert forecast["unknown_disks"] == [{"vm": "db", "disk": "vd-a"}]
    assert tried["steps"][-1]["count"] == 3
    existing = [each for each in forecast["points"] if each["id"]]
    assert len(existing) == 4
    assert all(each["dropped_at"] for each in existing)


async def test_without_a_schedule_the_group_s_own_rhythm_goes_on(server: Served) -> None:
    hold(server.receiver.catalog, 5, 6 * HOUR)
    async with server.client(Role.READ) as client:
        until = rfc3339(datetime.now(UTC) + 2 * DAY)
        forecast = (await client.get(f"{PLAN}/simulation", params={"until": until})).json()
    assert forecast["schedule"] == "every 6h"
    assert forecast["steps"][-1]["count"] == 13


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"schedule": "sometimes"}, "'sometimes' is not a schedule; write \"every 1h\""),
        ({"schedule": "every 1h", "until": "2020-01-01"}, "the forecast must end after "),
        ({"schedule": "every 1min", "until": "2050-01-01"}, "more than 100000 backups lie before the end"),
        ({}, "group nightly has too few points to tell how often it is backed up; say it"),
        ({"schedule": "every 1h", "until": "soon"}, "query.until"),
    ],
)
async def test_a_forecast_that_cannot_be_made(server: Served, query: dict[str, Any], words: str) -> None:
    hold(server.receiver.catalog, 1)
    async with server.client(Role.MANAGE) as client:
        await declare(client)
        answer = await client.get(f"{PLAN}/simulation", params=query)
    assert answer.status_code == 422
    assert words in answer.json()["error"]["message"]


async def test_a_forecast_that_takes_too_long_is_given_up(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leisure, "LONGEST_S", 0.0)
    hold(server.receiver.catalog, 3)
    async with server.client(Role.READ) as client:
        answer = await client.get(f"{PLAN}/simulation")
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].endswith("ask for an earlier date, or for fewer backups")


async def test_a_forecast_waits_while_vms_stand_still(server: Served, tmp_path: Any) -> None:
    hold(server.receiver.catalog, 3)
    async with server.client() as hypervisor, server.client(Role.READ) as client:
        hv1 = make_hosts(hypervisor, make_disks(tmp_path))[0]
        session = await open_session(hypervisor, ["hv1"])
        await hv1.join(session)
        await hv1.step(session, "prepared", {})
        forecast = asyncio.create_task(client.get(f"{PLAN}/simulation"))
        dummy, waiting = await asyncio.wait({forecast}, timeout=1)
        assert waiting
        await hypervisor.post(f"/api/v1/sessions/{session}/abort", json={"reason": "enough"})
        assert (await forecast).status_code == 200
