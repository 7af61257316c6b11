# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recovery plans of a receiver. For internal use of livebackup.qemu only."""

from __future__ import annotations

import urllib.parse
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _receiver
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import ReceiverRefused
from ansible_collections.livebackup.qemu.plugins.module_utils._receiver import Receiver

FIELDS = ("members", "network", "schedule", "time_zone")
_NONE = "recovery-plan-unknown"


def recovery_plan(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """See to it that a group has a recovery plan, or none. Raises ReceiverError, OptionError."""
    path = f"/groups/{urllib.parse.quote(params['group'], safe='')}/recovery-plan"
    with _receiver.connected(params) as receiver:
        before = _declared(receiver, path)
        wanted = _foreseen(receiver, path, params) if params["state"] == "present" else None
        changed = before != wanted
        if changed and not check_mode:
            _declare(receiver, path, wanted)
    return {
        "changed": changed,
        "plan": wanted,
        "diff": {"before": {"plan": before}, "after": {"plan": wanted}},
    }


def _declared(receiver: Receiver, path: str) -> dict[str, Any] | None:
    try:
        plan: dict[str, Any] = receiver.get(path)["plan"]
    except ReceiverRefused as error:
        if error.code == _NONE:
            return None
        raise
    return plan


def _foreseen(receiver: Receiver, path: str, params: dict[str, Any]) -> dict[str, Any]:
    """The plan with its defaults; the receiver knows them, and refuses what cannot be meant."""
    given = _given({name: params[name] for name in FIELDS})
    plan: dict[str, Any] = receiver.put(f"{path}?dry_run=true", given)["plan"]
    return plan


def _declare(receiver: Receiver, path: str, wanted: dict[str, Any] | None) -> None:
    if wanted is None:
        receiver.delete(path)
    else:
        receiver.put(path, wanted)


def _given(value: Any) -> Any:
    """Options without those that were not given, however deep."""
    if isinstance(value, dict):
        return {name: _given(each) for name, each in value.items() if each is not None}
    return [_given(each) for each in value] if isinstance(value, list) else value
