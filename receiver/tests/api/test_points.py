# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore points over the API."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sample_records import NOW, new_id, point, point_vm
from serving import Served

from livebackup_receiver.catalog.points import add_point
from livebackup_receiver.model import Point, Role


def add(server: Served, *points: Point) -> None:
    with server.receiver.catalog.write() as db:
        for each in points:
            add_point(db, each)


async def test_points_come_newest_first_and_can_be_limited(server: Served) -> None:
    made = [point(NOW + timedelta(days=day)) for day in range(3)]
    add(server, *made)
    async with server.client(Role.READ) as client:
        listed = (await client.get("/api/v1/points", params={"limit": 2})).json()["points"]
    assert [each["id"] for each in listed] == [made[2].id, made[1].id]


async def test_points_of_a_group_or_with_a_vm(server: Served) -> None:
    later = NOW + timedelta(days=1)
    add(server, point(), point(later, group="weekly", vms=[point_vm("web", new_id(later))]))
    async with server.client(Role.RESTORE) as client:
        by_group = (await client.get("/api/v1/points", params={"group": "weekly"})).json()["points"]
        by_vm = (await client.get("/api/v1/points", params={"vm": "db"})).json()["points"]
    assert [each["group"] for each in by_group] == ["weekly"]
    assert [each["vms"][0]["vm"] for each in by_vm] == ["db"]


async def test_a_point_is_given_as_it_was_committed(server: Served) -> None:
    made = point()
    add(server, made)
    async with server.client(Role.READ) as client:
        answer = (await client.get(f"/api/v1/points/{made.id}")).json()
    assert answer == made.model_dump(mode="json")
    assert answer["cut_at"] == "2026-03-01T03:00:00.000Z"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/v1/points?group=weekly", 404, "group-unknown"),
        ("/api/v1/points?vm=mail", 404, "vm-unknown"),
        ("/api/v1/points/01BX5ZZKBKACTAV9WEVGEMMVRZ", 404, "point-unknown"),
        ("/api/v1/points/..%2f..%2fetc", 404, "route-unknown"),
        ("/api/v1/points?limit=0", 422, "body-invalid"),
    ],
)
async def test_what_does_not_exist(server: Served, path: str, status: int, code: str) -> None:
    async with server.client(Role.READ) as client:
        answer = await client.get(path)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code


@pytest.mark.parametrize(("role", "status"), [(None, 401), (Role.BACKUP, 403)])
@pytest.mark.parametrize(
    "path", ["/api/v1/points", "/api/v1/points/x", "/api/v1/groups", "/api/v1/checks", "/metrics"]
)
async def test_a_hypervisor_may_not_read(server: Served, role: Role | None, status: int, path: str) -> None:
    async with server.client(role) as client:
        assert (await client.get(path)).status_code == status
