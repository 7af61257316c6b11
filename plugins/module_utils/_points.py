# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The restore points of a receiver. For internal use of livebackup.qemu only."""

from __future__ import annotations

from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _receiver


def point_info(params: dict[str, Any], dummy: bool) -> dict[str, Any]:
    """One point by id, or a list, newest first. Raises ReceiverError, OptionError."""
    with _receiver.connected(params) as receiver:
        if params["id"]:
            return {"changed": False, "points": [receiver.get(f"/points/{params['id']}")]}
        query = {"group": params["group"], "vm": params["vm"], "limit": params["limit"]}
        return {"changed": False, "points": receiver.get("/points", **query)["points"]}
