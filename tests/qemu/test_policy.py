# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""policy against a real receiver, and what it leaves of real points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import backups
import pytest
from machine import Machine, wait_for
from modules import run, succeed
from receiving import ReceiverProcess


def policy(receiver: ReceiverProcess, **options: Any) -> dict[str, Any]:
    return succeed("policy", **receiver.options("manage"), scope=f"group:{receiver.group}", **options)


def points(receiver: ReceiverProcess) -> list[str]:
    """The points of the test's group, newest first."""
    listed = succeed("point_info", **receiver.options("manage"), group=receiver.group)["points"]
    return [each["id"] for each in listed]


def test_a_policy_is_foreseen_declared_and_withdrawn(receiver: ReceiverProcess) -> None:
    rules = {"daily": 7, "keep_within": "14d", "time_zone": "Europe/Berlin"}
    for check, changed in ((True, True), (False, True), (False, False), (True, False)):
        result = policy(receiver, check=check, **rules)
        assert result["changed"] is changed
        assert (result["policy"]["daily"], result["policy"]["minimum"]) == (7, 1)
        assert result["drops"] == []
    declared = receiver.call("GET", "/policies", role="manage")["policies"]
    (found,) = [each for each in declared if each["scope"] == f"group:{receiver.group}"]
    assert found["policy"] == result["policy"]
    for check, changed in ((True, True), (False, True), (False, False)):
        result = policy(receiver, state="absent", check=check)
        assert (result["changed"], result["policy"]) == (changed, None)


def test_what_would_be_dropped_is_what_is_dropped(
    small_vm: Machine, receiver: ReceiverProcess, tmp_path: Path
) -> None:
    backups.track(small_vm)
    made = [backups.back_up(small_vm, receiver)["point"] for dummy in range(3)]
    foreseen = policy(receiver, check=True, keep_last=2)
    assert [(each["point"], each["vms"]) for each in foreseen["drops"]] == [(made[0], [small_vm.name])]
    assert foreseen["diff"]["before"] == {"policy": None, "dropped now": []}
    assert foreseen["diff"]["after"]["dropped now"][0].startswith(f"{made[0]} cut 20")
    assert points(receiver) == made[::-1]
    policy(receiver, keep_last=2)
    new = backups.back_up(small_vm, receiver)["point"]
    wait_for(lambda: points(receiver) == [new, made[2]], "retention")
    restored = receiver.restore(made[2], small_vm.name, tmp_path / "restored")
    assert restored.returncode == 0, restored.stderr


@pytest.mark.parametrize("role", ["backup", "read", "restore"])
def test_only_who_manages_may_declare(receiver: ReceiverProcess, role: str) -> None:
    scope = f"group:{receiver.group}"
    refused = run("policy", **receiver.options(role), scope=scope, daily=7)
    assert (refused["failed"], refused["error"]["code"]) == (True, "role-denied")
    declared = receiver.call("GET", "/policies", role="manage")["policies"]
    assert scope not in {each["scope"] for each in declared}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scope": "nightly", "daily": 7}, "'nightly' is not a scope: write"),
        ({"scope": "group:g", "daily": -1}, "greater than or equal to 0"),
        ({"scope": "group:g", "daily": 7, "time_zone": "Berlin"}, "there is no time zone 'Berlin'"),
        ({"scope": "group:g", "keep_within": "soon"}, "'soon' is not a duration"),
        ({"scope": "group:g"}, "any of the following are missing"),
    ],
)
def test_what_cannot_be_meant_is_said(receiver: ReceiverProcess, options: dict[str, Any], words: str) -> None:
    refused = run("policy", **receiver.options("manage"), **options)
    assert refused["failed"]
    assert words in refused["msg"]
