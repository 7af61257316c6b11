# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError
from retention.sample_points import DISK, scoped

from livebackup_receiver.retention.policy import RetentionPolicy, Scope, ScopeKind, group_zone


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        (
            {
                "keep_last": 3,
                "hourly": 24,
                "daily": 7,
                "weekly": 4,
                "monthly": 12,
                "time_zone": "Europe/Berlin",
            },
            "last 3, 24 hourly, 7 daily, 4 weekly, 12 monthly (Europe/Berlin), at least 1",
        ),
        ({"keep_within": "14d", "yearly": 2, "minimum": 5}, "within 14d, 2 yearly (UTC), at least 5"),
        ({"keep_last": 10, "daily": 0}, "last 10, at least 1"),
        ({"keep_last": 0, "minimum": 2}, "no rule, at least 2"),
    ],
)
def test_a_policy_is_told_in_a_line(rules: dict[str, Any], text: str) -> None:
    assert RetentionPolicy(**rules).describe() == text


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ({}, "a policy needs a rule, such as daily: 7"),
        ({"minimum": 3}, "say keep_last: 0 to keep no more than the minimum"),
        ({"daily": 7, "minimum": 0}, "greater than or equal to 1"),
        ({"daily": -1}, "greater than or equal to 0"),
        ({"daily": True}, "valid integer"),
        ({"dayly": 7}, "Extra inputs are not permitted"),
        ({"keep_within": "soon"}, "'soon' is not a duration"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(rules: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        RetentionPolicy(**rules)


@pytest.mark.parametrize(
    "name", ["", "Europe", "Europe/Berln", "europe/berlin/", "../etc/passwd", "/etc/localtime", "a\0b"]
)
def test_an_unknown_time_zone_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(ValidationError) as refused:
        RetentionPolicy(daily=7, time_zone=name)
    (error,) = refused.value.errors()
    assert error["msg"] == f'Value error, there is no time zone {name!r}: write one such as "Europe/Berlin"'


def test_a_policy_survives_json() -> None:
    policy = RetentionPolicy(keep_within="6m", daily=7, time_zone="Asia/Kathmandu")
    assert RetentionPolicy.model_validate_json(policy.model_dump_json()) == policy


@pytest.mark.parametrize(
    ("text", "scope", "label"),
    [
        ("group:nightly", Scope(ScopeKind.GROUP, "nightly"), "group nightly"),
        ("vm:db1", Scope(ScopeKind.VM, "db1"), "vm db1"),
        ("disk:db1/virtio0", Scope(ScopeKind.DISK, "db1", "virtio0"), "disk db1/virtio0"),
    ],
)
def test_scopes_have_one_text(text: str, scope: Scope, label: str) -> None:
    assert Scope.parse(text) == scope
    assert (str(scope), scope.label) == (text, label)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nightly",
        "group:",
        "vm:db1/virtio0",
        "disk:db1",
        "disk:db1/",
        "disk:a/b/c",
        "host:hv1",
        "vm:a b",
        "vm:..",
        "VM:db1",
    ],
)
def test_anything_else_is_no_scope(text: str) -> None:
    with pytest.raises(ValueError, match='is not a scope: write "group:<group>", "vm:<vm>" or "disk:<vm>/<'):
        Scope.parse(text)


@pytest.mark.parametrize(
    ("text", "covers"),
    [
        ("group:nightly", True),
        ("group:weekly", False),
        ("vm:db1", True),
        ("vm:web1", False),
        ("disk:db1/virtio0", True),
        ("disk:db1/virtio1", False),
        ("disk:web1/virtio0", False),
    ],
)
def test_a_scope_covers_points_by_group_vm_or_disk(text: str, covers: bool) -> None:
    assert Scope.parse(text).covers("nightly", (DISK,)) is covers


def test_dates_of_a_group_are_those_of_its_own_policy() -> None:
    own = scoped(daily=7, time_zone="Europe/Berlin")
    other = scoped("group:other", daily=7, time_zone="Asia/Tokyo")
    vm = scoped("vm:db1", daily=7, time_zone="Asia/Kathmandu")
    assert group_zone("nightly", [other, vm, own]) == ZoneInfo("Europe/Berlin")
    assert group_zone("nightly", [other, vm]) == ZoneInfo("Asia/Kathmandu")
    assert group_zone("nightly", [other]) is UTC
