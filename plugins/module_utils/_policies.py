# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The retention policies of a receiver. For internal use of livebackup.qemu only."""

from __future__ import annotations

import urllib.parse
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _receiver
from ansible_collections.livebackup.qemu.plugins.module_utils._receiver import Receiver

RULES = ("keep_last", "keep_within", "hourly", "daily", "weekly", "monthly", "yearly")
FIELDS = (*RULES, "minimum", "time_zone")
# a group may have 100,000 points to judge
_JUDGING_SECONDS = 60.0


def policy(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """See to it that a scope has a policy, or none. Raises ReceiverError, OptionError."""
    wanted = {name: params[name] for name in FIELDS} if params["state"] == "present" else None
    with _receiver.connected(params) as receiver:
        before = _declared(receiver, params["scope"])
        preview = _preview(receiver, params, wanted)
        changed = before != wanted
        if changed and not check_mode:
            _declare(receiver, params["scope"], wanted)
    return {
        "changed": changed,
        "policy": wanted,
        "drops": preview["after"],
        "diff": {
            "before": _side(before, preview["before"]),
            "after": _side(wanted, preview["after"]),
        },
    }


def _declared(receiver: Receiver, scope: str) -> dict[str, Any] | None:
    """The policy that a scope has; only what this module knows of it."""
    for each in receiver.get("/policies")["policies"]:
        if each["scope"] == scope:
            return {name: each["policy"].get(name) for name in FIELDS}
    return None


def _preview(receiver: Receiver, params: dict[str, Any], wanted: dict[str, Any] | None) -> dict[str, Any]:
    """What would be dropped before and after; the receiver refuses what cannot be meant."""
    proposal = {"policies": [{"scope": params["scope"], "policy": wanted}]}
    timeout = max(params["receiver_timeout"], _JUDGING_SECONDS)
    return receiver.post("/retention/preview", proposal, timeout=timeout)


def _declare(receiver: Receiver, scope: str, wanted: dict[str, Any] | None) -> None:
    path = f"/policies/{urllib.parse.quote(scope)}"
    if wanted is None:
        receiver.delete(path)
    else:
        receiver.put(path, wanted)


def _side(found: dict[str, Any] | None, drops: list[dict[str, Any]]) -> dict[str, Any]:
    """A policy and what it drops, as one side of a diff."""
    return {"policy": found, "dropped now": [f"{each['point']} cut {each['cut_at']}" for each in drops]}
