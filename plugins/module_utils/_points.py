# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The restore points of a receiver. For internal use of livebackup.qemu only."""

from __future__ import annotations

from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _receiver
from ansible_collections.livebackup.qemu.plugins.module_utils._receiver import Receiver


def point_info(params: dict[str, Any], dummy: bool) -> dict[str, Any]:
    """One point by id, or a list, newest first. Raises ReceiverError, OptionError."""
    with _receiver.connected(params) as receiver:
        points = _points(receiver, params)
        if params["recovery_order"]:
            points = [{**point, "stages": _stages(receiver, point["id"])} for point in points]
    return {"changed": False, "points": points}


def _points(receiver: Receiver, params: dict[str, Any]) -> list[dict[str, Any]]:
    if params["id"]:
        return [receiver.get(f"/points/{params['id']}")]
    query = {"group": params["group"], "vm": params["vm"], "limit": params["limit"]}
    found: list[dict[str, Any]] = receiver.get("/points", **query)["points"]
    return found


def _stages(receiver: Receiver, point: str) -> list[list[dict[str, Any]]]:
    stages: list[list[dict[str, Any]]] = receiver.get(f"/points/{point}/recovery-order")["stages"]
    return stages
