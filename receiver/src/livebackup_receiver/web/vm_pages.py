# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of a VM: which of its points lies on which."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response

from livebackup_receiver.api.auth import ReceiverOf
from livebackup_receiver.catalog.trees import load_tree
from livebackup_receiver.state import Receiver
from livebackup_receiver.tree import DiskTree, Row, VmTree, rows_of
from livebackup_receiver.web.answers import PageRoute, page
from livebackup_receiver.web.overview import Facts
from livebackup_receiver.web.pages import Viewer

ROWS_SHOWN = 500
LANE = 16
HEIGHT = 40

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/vms/{vm}")
async def show_vm(vm: str, receiver: ReceiverOf, viewer: Viewer) -> Response:
    tree = await asyncio.to_thread(_load, receiver, vm)
    return page("vm.html", viewer=viewer, vm=vm, trees=[_facts(each) for each in tree.trees])


def _facts(tree: DiskTree) -> Facts:
    rows = rows_of(tree.points)[:ROWS_SHOWN]
    return {
        "disks": tree.disks,
        "heads": tree.heads,
        "width": LANE * max(row.width for row in rows),
        "height": HEIGHT,
        "rows": [
            {**row.point.model_dump(mode="json"), "lines": _lines(row), "x": _x(row.lane)} for row in rows
        ],
        "left_off": len(tree.points) - len(rows),
    }


def _drawn(row: Row) -> Facts:
    return {**row.point.model_dump(mode="json"), "lines": _lines(row), "x": _x(row.lane)}


def _lines(row: Row) -> list[str]:
    """The lines of a row as SVG paths."""
    middle, x = HEIGHT // 2, _x(row.lane)
    lines = [f"M{_x(lane)} 0V{HEIGHT}" for lane in row.passing]
    lines += [
        f"M{_x(lane)} 0Q{_x(lane)} {middle} {_x(lane) - LANE // 2} {middle}H{x}" for lane in row.joining
    ]
    if row.rises:
        lines.append(f"M{x} 0V{middle}")
    if row.goes_on:
        lines.append(f"M{x} {middle}V{HEIGHT}")
    return lines


def _x(lane: int) -> int:
    return lane * LANE + LANE // 2


def _load(receiver: Receiver, vm: str) -> VmTree:
    with receiver.catalog.read() as db:
        return load_tree(db, vm)
