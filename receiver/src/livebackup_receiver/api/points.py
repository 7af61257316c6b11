# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes of restore points; read only."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from livebackup_receiver.api.auth import MayRead, ReceiverOf
from livebackup_receiver.catalog import points
from livebackup_receiver.model import Model, Point

router = APIRouter(prefix="/api/v1/points", tags=["points"])


class Points(Model):
    points: list[Point]


@router.get("")
def list_points(
    receiver: ReceiverOf,
    token: MayRead,
    group: str | None = None,
    vm: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Points:
    """Points, newest first; 404 for a group or VM that has none."""
    with receiver.catalog.read() as db:
        return Points(points=points.list_points(db, group=group, vm=vm, limit=limit))


@router.get("/{point_id}")
def get_point(point_id: str, receiver: ReceiverOf, token: MayRead) -> Point:
    """One point, with its VMs and their disks."""
    with receiver.catalog.read() as db:
        return points.load_point(db, point_id)
