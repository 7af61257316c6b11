# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies over the API."""

from __future__ import annotations

from typing import Any

import pytest
from held_points import hold, point_ids
from serving import Served

from livebackup_receiver.model import Role

DAILY = {"daily": 7, "weekly": 4, "time_zone": "Europe/Berlin"}
WHOLE = {
    "keep_last": None,
    "keep_within": None,
    "hourly": None,
    "daily": 7,
    "weekly": 4,
    "monthly": None,
    "yearly": None,
    "minimum": 1,
    "time_zone": "Europe/Berlin",
}


async def test_a_new_receiver_has_no_policy(server: Served) -> None:
    async with server.client(Role.READ) as client:
        assert (await client.get("/api/v1/policies")).json() == {"policies": []}


@pytest.mark.parametrize("path", ["group:nightly", "vm:db1", "disk:db1/virtio0", "disk:db1%2Fvirtio0"])
async def test_a_policy_is_declared_for_each_kind_of_scope(server: Served, path: str) -> None:
    async with server.client(Role.MANAGE) as client:
        declared = (await client.put(f"/api/v1/policies/{path}", json=DAILY)).json()
        listed = (await client.get("/api/v1/policies")).json()["policies"]
    assert (declared["scope"], declared["policy"]) == (path.replace("%2F", "/"), WHOLE)
    assert listed == [declared]


async def test_a_policy_takes_the_place_of_the_one_before(server: Served) -> None:
    async with server.client(Role.MANAGE) as client:
        first = (await client.put("/api/v1/policies/group:nightly", json=DAILY)).json()
        same = (await client.put("/api/v1/policies/group:nightly", json=DAILY)).json()
        other = (await client.put("/api/v1/policies/group:nightly", json={"daily": 3})).json()
        listed = (await client.get("/api/v1/policies")).json()["policies"]
    assert same == first
    assert other["changed_at"] > first["changed_at"]
    assert listed == [other]


async def test_a_policy_is_withdrawn_once(server: Served) -> None:
    async with server.client(Role.MANAGE) as client:
        await client.put("/api/v1/policies/disk:db1/virtio0", json=DAILY)
        assert (await client.delete("/api/v1/policies/disk:db1/virtio0")).status_code == 204
        assert (await client.get("/api/v1/policies")).json() == {"policies": []}
        again = await client.delete("/api/v1/policies/disk:db1/virtio0")
    assert (again.status_code, again.json()["error"]["code"]) == (404, "policy-unknown")


@pytest.mark.parametrize(
    ("scope", "policy", "words"),
    [
        ("nightly", DAILY, "'nightly' is not a scope; write \"group:<group>\""),
        ("disk:db1", DAILY, "'disk:db1' is not a scope; write"),
        ("group:nightly", {}, "a policy needs a rule, such as daily: 7"),
        ("group:nightly", {"dayly": 7}, "body.dayly"),
        ("group:nightly", {"daily": True}, "body.daily"),
        ("group:nightly", {"daily": 7, "minimum": 0}, "body.minimum"),
        ("group:nightly", {"daily": 7, "time_zone": "Berlin"}, "there is no time zone 'Berlin'"),
        ("group:nightly", {"keep_within": "soon"}, "'soon' is not a duration"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    server: Served, scope: str, policy: dict[str, Any], words: str
) -> None:
    async with server.client(Role.MANAGE) as client:
        answer = await client.put(f"/api/v1/policies/{scope}", json=policy)
        listed = (await client.get("/api/v1/policies")).json()["policies"]
    assert answer.status_code == 422
    assert words in answer.json()["error"]["message"]
    assert listed == []


async def test_declaring_drops_nothing_by_itself(server: Served) -> None:
    made = hold(server.receiver.catalog, 5)
    async with server.client(Role.MANAGE) as client:
        await client.put("/api/v1/policies/group:nightly", json={"keep_last": 1})
        assert await point_ids(client) == [each.id for each in made]
