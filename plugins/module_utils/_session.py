# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Opening, aborting and showing sessions of a receiver. For internal use of livebackup.qemu only."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _bandwidth, _receiver
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import ReceiverRefused
from ansible_collections.livebackup.qemu.plugins.module_utils._receiver import Receiver

ENDED_STATES = ("committed", "aborted")
_BUSY = "group-busy"
_POLL_SECONDS = 1.0


def session(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Open a session, or see to it that one is not open. Raises ReceiverError, OptionError."""
    with _receiver.connected(params) as receiver:
        if params["state"] == "present":
            return _open(receiver, params, check_mode)
        return _abort(receiver, params, check_mode)


def opening(params: dict[str, Any]) -> dict[str, Any]:
    """Body of ``POST /sessions``. Raises OptionError."""
    limit = _bandwidth.checked("speed_limit", params["speed_limit"])
    return {
        **({"speed_limit": limit} if limit else {}),
        "group": params["group"],
        "policy": params["policy"],
        "consistency": params["consistency"],
        "hosts": params["hosts"],
        "required_vms": params["required_vms"],
        "min_vms": params["min_vms"],
        "forget_vms": params["forget_vms"],
        "join_timeout_s": params["join_timeout"],
        "stop_budget_s": params["stop_budget"],
    }


def _open(receiver: Receiver, params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    if check_mode:
        return {
            "changed": True,
            "session": None,
            "diff": _diff(None, {"state": "joining", **opening(params)}),
        }
    opened = _post_when_free(receiver, opening(params), time.monotonic() + params["wait"])
    return {"changed": True, "session": opened, "diff": _diff(None, _essence(opened))}


def _post_when_free(receiver: Receiver, body: dict[str, Any], deadline: float) -> dict[str, Any]:
    """Open a session as soon as the group has no other one; raises the refusal after the deadline."""
    while True:
        try:
            return receiver.post("/sessions", body, idempotent=False)
        except ReceiverRefused as error:
            if error.code != _BUSY or time.monotonic() >= deadline:
                raise
        time.sleep(_POLL_SECONDS)


def _abort(receiver: Receiver, params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    before = _find(receiver, params)
    if before is None or before["state"] in ENDED_STATES:
        return {"changed": False, "session": before, "diff": _diff(_essence(before), _essence(before))}
    if check_mode:
        after = {**before, "state": "aborted", "reason": params["reason"]}
    else:
        after = receiver.post(f"/sessions/{before['id']}/abort", {"reason": params["reason"]})
    return {"changed": True, "session": after, "diff": _diff(_essence(before), _essence(after))}


def _find(receiver: Receiver, params: dict[str, Any]) -> dict[str, Any] | None:
    if params["id"]:
        return receiver.get(f"/sessions/{params['id']}")
    found = receiver.get("/sessions", group=params["group"], state="open", limit=1)["sessions"]
    return found[0] if found else None


def _essence(found: dict[str, Any] | None) -> dict[str, Any] | None:
    return found and {name: found[name] for name in ("id", "group", "state", "reason")}


def _diff(before: Any, after: Any) -> dict[str, Any]:
    return {"before": before or {}, "after": after or {}}


def session_info(params: dict[str, Any], dummy: bool) -> dict[str, Any]:
    """One session by id, or a list, newest first. Raises ReceiverError, OptionError."""
    with _receiver.connected(params) as receiver:
        if params["id"]:
            return {"changed": False, "sessions": [receiver.get(f"/sessions/{params['id']}")]}
        query = {"group": params["group"], "state": params["state"], "limit": params["limit"]}
        return {"changed": False, "sessions": receiver.get("/sessions", **query)["sessions"]}
