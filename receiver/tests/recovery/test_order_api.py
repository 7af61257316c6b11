# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order the VMs of a point are brought up."""

from __future__ import annotations

from typing import Any

import pytest
from recovery_samples import THREE
from sample_records import NOW, new_id, point, point_vm
from serving import Served

from livebackup_receiver.catalog.points import add_point
from livebackup_receiver.model import Role


def add(server: Served, *vms: str) -> str:
    """A point that holds these VMs."""
    point_id = new_id(NOW)
    made = point(id=point_id, vms=[point_vm(vm, point_id) for vm in vms])
    with server.receiver.catalog.write() as db:
        add_point(db, made)
    return point_id


async def order_of(server: Served, point_id: str) -> list[list[dict[str, Any]]]:
    async with server.client(Role.RESTORE) as client:
        answer = await client.get(f"/api/v1/points/{point_id}/recovery-order")
    assert answer.status_code == 200
    stages: list[list[dict[str, Any]]] = answer.json()["stages"]
    return stages


async def declare(server: Served) -> None:
    async with server.client(Role.MANAGE) as client:
        assert (await client.put("/api/v1/groups/nightly/recovery-plan", json=THREE)).status_code == 200


@pytest.mark.parametrize(
    ("vms", "expected"),
    [
        (["app", "batch", "db"], [["db"], ["app"], ["batch"]]),
        (["app", "cache", "db"], [["cache", "db"], ["app"]]),
        (["app", "batch"], [["app"], ["batch"]]),
    ],
)
async def test_stages_go_by_the_plan(server: Served, vms: list[str], expected: list[list[str]]) -> None:
    await declare(server)
    stages = await order_of(server, add(server, *vms))
    assert [[each["vm"] for each in stage] for stage in stages] == expected


async def test_a_vm_is_named_with_its_host_and_its_limit(server: Served) -> None:
    await declare(server)
    [[db], [app]] = await order_of(server, add(server, "app", "db"))
    assert db == {"vm": "db", "host": "hv1", "after": [], "timeout_s": 120.0}
    assert app == {"vm": "app", "host": "hv1", "after": ["db"], "timeout_s": 300.0}


async def test_a_group_without_a_plan_is_brought_up_at_once(server: Served) -> None:
    [stage] = await order_of(server, add(server, "app", "db"))
    assert [each["vm"] for each in stage] == ["app", "db"]
