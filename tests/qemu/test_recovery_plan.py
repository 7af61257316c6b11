# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""recovery_plan against a real receiver."""

from __future__ import annotations

from typing import Any

import pytest
from modules import run, succeed
from receiving import ReceiverProcess

MEMBERS: list[dict[str, Any]] = [
    {"vm": "db", "boot": {"memory_mib": 64, "nics": [{"address": "10.0.0.2"}]}, "ready": {"agent": True}},
    {"vm": "app", "after": ["db"], "checks": [{"name": "port", "tcp": 80, "address": "10.0.0.2"}]},
]
PLAN: dict[str, Any] = {
    "members": MEMBERS,
    "network": {"address": "10.0.0.1/24"},
    "schedule": "daily at 04:00",
}


def recovery_plan(receiver: ReceiverProcess, **options: Any) -> dict[str, Any]:
    return succeed("recovery_plan", **receiver.options("manage"), group=receiver.group, **options)


def test_a_plan_is_foreseen_declared_and_withdrawn(receiver: ReceiverProcess) -> None:
    for check, changed in ((True, True), (False, True), (False, False), (True, False)):
        result = recovery_plan(receiver, check=check, **PLAN)
        assert result["changed"] is changed
        assert [each["vm"] for each in result["plan"]["members"]] == ["db", "app"]
        assert result["plan"]["members"][1]["boot"]["memory_mib"] == 1024
    path = f"/groups/{receiver.group}/recovery-plan"
    assert receiver.call("GET", path, role="manage")["plan"] == result["plan"]
    other = recovery_plan(receiver, check=True, **{**PLAN, "schedule": "every 1w"})
    assert other["diff"]["before"]["plan"]["schedule"] == "daily at 04:00"
    assert other["diff"]["after"]["plan"]["schedule"] == "every 1w"
    for check, changed in ((True, True), (False, True), (False, False)):
        result = recovery_plan(receiver, state="absent", check=check)
        assert (result["changed"], result["plan"]) == (changed, None)


@pytest.mark.parametrize("check", [False, True])
def test_what_cannot_be_meant_is_said(receiver: ReceiverProcess, check: bool) -> None:
    refused = run(
        "recovery_plan",
        check=check,
        **receiver.options("manage"),
        group=receiver.group,
        members=[{"vm": "app", "after": ["db"]}],
    )
    assert (refused["failed"], refused["error"]["code"]) == (True, "body-invalid")
    assert "VM app comes after db, which is no member of the plan" in refused["msg"]


def test_only_who_manages_may_declare(receiver: ReceiverProcess) -> None:
    refused = run("recovery_plan", **receiver.options("restore"), group=receiver.group)
    assert (refused["failed"], refused["error"]["code"]) == (True, "role-denied")
