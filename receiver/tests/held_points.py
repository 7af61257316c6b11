# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Series of points in a catalog, for retention to judge; their layers exist in the records only."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sample_records import new_id, point, point_vm

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.points import add_point
from livebackup_receiver.model import Point
from livebackup_receiver.store.paths import Store

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
LAST_TWO = {"keep_last": 2}


def noon() -> datetime:
    """A recent noon: in a series of days, no two points share one."""
    return datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - DAY


def hold(
    catalog: Catalog,
    count: int,
    step: timedelta = DAY,
    *,
    last: datetime | None = None,
    vms: tuple[str, ...] = ("db",),
    **facts: Any,
) -> list[Point]:
    """Add so many points to a group; newest first."""
    moments = [(last or noon()) - number * step for number in range(count)]
    ids = [new_id(moment) for moment in moments]
    points = [
        point(moment, id=id, vms=[point_vm(vm, id) for vm in vms], **facts)
        for moment, id in zip(moments, ids, strict=True)
    ]
    with catalog.write() as db:
        for each in points:
            add_point(db, each)
    return points


def make_directories(store: Path, points: Iterable[Point]) -> None:
    """The directories of the disks of points; without any, a receiver takes its store for not mounted."""
    for each in points:
        for vm in each.vms:
            for disk in vm.disks:
                Store(store).disk(vm.vm, disk.disk).path.mkdir(parents=True, exist_ok=True)


async def declare(client: httpx.AsyncClient, scope: str = "group:nightly", **rules: Any) -> None:
    """Have a policy."""
    answer = await client.put(f"/api/v1/policies/{scope}", json=rules or LAST_TWO)
    assert answer.status_code == 200, answer.text


async def point_ids(client: httpx.AsyncClient) -> list[str]:
    """The points there are, newest first."""
    answer = await client.get("/api/v1/points", params={"limit": 1000})
    return [each["id"] for each in answer.json()["points"]]
