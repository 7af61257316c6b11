# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from retention.sample_points import DAY, HOUR, NOW, point, series

from livebackup_receiver.retention.declared import DeclaredPolicy, ProposedPolicy, in_force, propose
from livebackup_receiver.retention.plan import plan_of, preview_of
from livebackup_receiver.retention.policy import RetentionPolicy

LAST_TWO = RetentionPolicy(keep_last=2)


def declared(scope: str, policy: RetentionPolicy = LAST_TWO) -> DeclaredPolicy:
    return DeclaredPolicy(scope=scope, policy=policy, changed_at=NOW)


def test_a_plan_names_only_the_policies_that_are_for_the_group() -> None:
    scopes = ["group:nightly", "group:weekly", "vm:db1", "vm:web1", "disk:db1/virtio0", "disk:db1/virtio9"]
    plan = plan_of("nightly", series(3, DAY), [declared(scope) for scope in scopes], NOW)
    assert [each.scope for each in plan.policies] == ["group:nightly", "vm:db1", "disk:db1/virtio0"]


def test_a_plan_is_for_people_and_machines() -> None:
    points = [
        *series(2, HOUR),
        point(NOW - DAY, complete=False, disks=(("web", "a"), ("db", "a"), ("db", "b"))),
    ]
    kept, dummy, gone = plan_of("nightly", points, [declared("group:nightly")], NOW).verdicts
    assert (kept.keep, kept.rules[:2]) == (True, ["newest point", "newest complete point"])
    assert gone.model_dump(mode="json") == {
        "point": points[2].id,
        "cut_at": "2026-11-19T12:00:00.000Z",
        "complete": False,
        "vms": ["db", "web"],
        "keep": False,
        "rules": [],
    }


def test_a_preview_compares_what_goes_now_with_what_would_go() -> None:
    points = series(4, DAY)
    policies = in_force([declared("group:nightly")])
    proposed = propose(policies, [ProposedPolicy(scope="group:nightly", policy=RetentionPolicy(keep_last=3))])
    preview = preview_of({"nightly": points}, policies, proposed, NOW)
    assert [each.point for each in preview.before] == [each.id for each in points[2:]]
    assert [each.point for each in preview.after] == [points[3].id]


@pytest.mark.parametrize("scope", ["group:nightly", "vm:db1"])
def test_proposals_add_replace_and_take_away(scope: str) -> None:
    before = in_force([declared("group:nightly"), declared("group:weekly")])
    daily = RetentionPolicy(daily=1)
    after = propose(before, [ProposedPolicy(scope=scope, policy=daily)])
    assert {str(each.scope): each.policy for each in after} == {
        "group:nightly": LAST_TWO,
        "group:weekly": LAST_TWO,
        scope: daily,
    }
    without = propose(after, [ProposedPolicy(scope=scope, policy=None)])
    assert scope not in {str(each.scope) for each in without}
