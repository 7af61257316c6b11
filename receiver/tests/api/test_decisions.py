# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pins, locks and drops over the API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from held_points import DAY, declare, hold, point_ids
from serving import Served

from livebackup_receiver.model import Role, rfc3339

UNKNOWN = "01BX5ZZKBKACTAV9WEVGEMMVRZ"
TOMORROW = rfc3339(datetime.now(UTC) + DAY)
YESTERDAY = rfc3339(datetime.now(UTC) - DAY)


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]


async def test_a_pinned_point_says_so_and_is_kept(server: Served) -> None:
    oldest = hold(server.receiver.catalog, 4)[-1]
    async with server.client(Role.MANAGE) as client:
        await declare(client)
        body = {"reason": "before the upgrade", "until": TOMORROW}
        pinned = (await client.put(f"/api/v1/points/{oldest.id}/pin", json=body)).json()
        dropped = await client.delete(f"/api/v1/points/{oldest.id}")
        plan = (await client.get("/api/v1/groups/nightly/retention")).json()
        unpinned = (await client.delete(f"/api/v1/points/{oldest.id}/pin")).json()
        after = (await client.get("/api/v1/groups/nightly/retention")).json()
    assert (pinned["pin_reason"], pinned["pin_until"]) == ("before the upgrade", TOMORROW)
    assert refusal(dropped)[:2] == (409, "point-kept")
    assert "it is pinned (before the upgrade)" in refusal(dropped)[2]
    (rule,) = plan["verdicts"][-1]["rules"]
    assert rule.startswith("pinned: before the upgrade (until ")
    assert (unpinned["pin_reason"], unpinned["pin_until"]) == (None, None)
    assert not after["verdicts"][-1]["keep"]


async def test_a_lock_holds_against_everybody_and_is_never_made_shorter(server: Served) -> None:
    oldest = hold(server.receiver.catalog, 4)[-1]
    later = rfc3339(datetime.now(UTC) + 2 * DAY)
    async with server.client(Role.MANAGE) as client:
        await declare(client)
        path = f"/api/v1/points/{oldest.id}"
        locked = (await client.put(f"{path}/lock", json={"until": later})).json()
        shorter = await client.put(f"{path}/lock", json={"until": TOMORROW})
        await client.delete(f"{path}/pin")
        dropped = await client.delete(path)
        applied = (await client.post("/api/v1/groups/nightly/retention/apply")).json()
    assert locked["locked_until"] == later
    assert refusal(shorter)[:2] == (409, "lock-shortened")
    assert refusal(dropped)[:2] == (409, "point-kept")
    assert oldest.id not in applied["dropped"]
    assert len(applied["dropped"]) == 1


async def test_a_dropped_point_is_gone_at_once(server: Served) -> None:
    newest, oldest = hold(server.receiver.catalog, 2)
    async with server.client(Role.MANAGE) as client:
        assert (await client.delete(f"/api/v1/points/{oldest.id}")).status_code == 204
        assert await point_ids(client) == [newest.id]
        assert (await client.get(f"/api/v1/points/{oldest.id}")).status_code == 404
        again = await client.delete(f"/api/v1/points/{oldest.id}")
    assert refusal(again)[:2] == (404, "point-unknown")


async def test_not_even_by_hand_there_are_fewer_points_than_a_minimum(server: Served) -> None:
    made = hold(server.receiver.catalog, 3)
    async with server.client(Role.MANAGE) as client:
        await declare(client, keep_last=9, minimum=2)
        allowed = await client.delete(f"/api/v1/points/{made[0].id}")
        refused = [await client.delete(f"/api/v1/points/{each.id}") for each in made[1:]]
        left = await point_ids(client)
        await client.delete("/api/v1/policies/group:nightly")
        without = await client.delete(f"/api/v1/points/{made[1].id}")
    assert allowed.status_code == 204
    assert {refusal(each)[:2] for each in refused} == {(409, "minimum-undercut")}
    assert "the policy for group nightly demands a minimum of 2, and there are no" in refusal(refused[0])[2]
    assert left == [each.id for each in made[1:]]
    assert without.status_code == 204


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/pin", {"reason": "why"}),
        ("DELETE", "/pin", None),
        ("PUT", "/lock", {"until": TOMORROW}),
        ("DELETE", "", None),
    ],
)
async def test_a_point_that_does_not_exist(server: Served, method: str, path: str, body: Any) -> None:
    async with server.client(Role.MANAGE) as client:
        answer = await client.request(method, f"/api/v1/points/{UNKNOWN}{path}", json=body)
    assert refusal(answer)[:2] == (404, "point-unknown")


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("pin", {"reason": "why", "until": YESTERDAY}, "date-passed"),
        ("lock", {"until": YESTERDAY}, "date-passed"),
        ("pin", {"reason": ""}, "body-invalid"),
        ("lock", {}, "body-invalid"),
    ],
)
async def test_what_would_be_over_before_it_begins_is_refused(
    server: Served, path: str, body: Any, code: str
) -> None:
    (point,) = hold(server.receiver.catalog, 1)
    async with server.client(Role.MANAGE) as client:
        answer = await client.put(f"/api/v1/points/{point.id}/{path}", json=body)
        unchanged = (await client.get(f"/api/v1/points/{point.id}")).json()
    assert refusal(answer)[:2] == (422, code)
    assert unchanged == point.model_dump(mode="json")


async def test_a_pin_that_has_ended_holds_nothing(server: Served) -> None:
    oldest = hold(server.receiver.catalog, 2, pin_reason="for a test")[-1]
    (ended,) = hold(
        server.receiver.catalog,
        1,
        last=oldest.cut_at - DAY,
        pin_reason="for a test",
        pin_until=datetime.now(UTC) - timedelta(minutes=1),
    )
    async with server.client(Role.MANAGE) as client:
        await declare(client)
        applied = (await client.post("/api/v1/groups/nightly/retention/apply")).json()
    assert applied["dropped"] == [ended.id]
