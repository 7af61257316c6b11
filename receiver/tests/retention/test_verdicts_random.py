# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for the verdicts on any points by any policies."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from retention.sample_points import DISK, HOUR, NOW, kept, point, scoped

from livebackup_receiver.retention.durations import Duration
from livebackup_receiver.retention.policy import RetentionPolicy, ScopedPolicy
from livebackup_receiver.retention.verdicts import PointFacts, judge

MINUTES = 400 * 24 * 60
COUNTS = ("keep_last", "hourly", "daily", "weekly", "monthly", "yearly")
DISK_SETS: list[tuple[tuple[str, str], ...]] = [(DISK,), (("web1", "vda"),), (DISK, ("web1", "vda"))]

# many within some days, where the rules compete, and some over a year; a few of the future
AGES = st.one_of(st.integers(-60, 5000), st.integers(-60, MINUTES))
POINTS = st.lists(
    st.builds(
        lambda age, complete, disks, **held: point(
            NOW - timedelta(minutes=age), complete=complete, disks=disks, **held
        ),
        AGES,
        st.booleans(),
        st.sampled_from(DISK_SETS),
        pin_reason=st.none() | st.just("kept"),
        pin_until=st.none() | AGES.map(lambda age: NOW - timedelta(minutes=age)),
    ),
    max_size=30,
    unique_by=lambda each: each.id,
)
RULES = st.fixed_dictionaries(
    {
        **dict.fromkeys(COUNTS, st.none() | st.integers(0, 5)),
        "keep_within": st.none() | st.builds("{}{}".format, st.integers(1, 20), st.sampled_from("hdwmy")),
        "minimum": st.integers(1, 4),
        "time_zone": st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
    }
).map(lambda rules: {**rules, "keep_last": rules["keep_last"] or 0})
SCOPES = st.sampled_from(["group:nightly", "vm:db1", "disk:web1/vda"])
POLICIES = st.lists(st.builds(lambda scope, rules: scoped(scope, **rules), SCOPES, RULES), max_size=3)


def kept_ids(points: list[PointFacts], policies: list[ScopedPolicy]) -> set[str]:
    return {each.id for each in kept(judge(points, policies, NOW))}


@given(POINTS, POLICIES)
def test_only_what_a_rule_keeps_is_kept(points: list[PointFacts], policies: list[ScopedPolicy]) -> None:
    verdicts = judge(points, policies, NOW)
    assert sorted(each.point.id for each in verdicts) == sorted(each.id for each in points)
    assert all(verdict.keep == bool(verdict.rules) for verdict in verdicts)


@given(POINTS, POLICIES)
def test_what_is_kept_stays_kept_when_the_rest_is_gone(
    points: list[PointFacts], policies: list[ScopedPolicy]
) -> None:
    left = kept(judge(points, policies, NOW))
    assert kept(judge(left, policies, NOW)) == left


def raised(rules: dict[str, Any], name: str, by: int) -> dict[str, Any]:
    if name != "keep_within":
        return {**rules, name: (rules[name] or 0) + by}
    duration = Duration.parse(rules[name] or "1h")
    return {**rules, name: str(Duration(duration.number + by, duration.unit))}


@given(POINTS, RULES, st.sampled_from([*COUNTS, "minimum", "keep_within"]), st.integers(1, 5), SCOPES)
def test_raising_a_number_costs_no_point(
    points: list[PointFacts], rules: dict[str, Any], name: str, by: int, scope: str
) -> None:
    assert kept_ids(points, [scoped(scope, **rules)]) <= kept_ids(
        points, [scoped(scope, **raised(rules, name, by))]
    )


@given(POINTS, RULES, st.integers(1, MINUTES))
def test_an_older_complete_point_costs_no_complete_point_its_place(
    points: list[PointFacts], rules: dict[str, Any], minutes: int
) -> None:
    oldest = min((each.cut_at for each in points), default=NOW)
    more = [*points, point(oldest - timedelta(minutes=minutes))]
    complete = {each.id for each in points if each.complete}
    assert kept_ids(points, [scoped(**rules)]) & complete <= kept_ids(more, [scoped(**rules)])


@given(POINTS, RULES)
def test_the_minimum_is_there_whatever_the_rules(points: list[PointFacts], rules: dict[str, Any]) -> None:
    complete = [each for each in points if each.complete and each.cut_at <= NOW]
    left = [each for each in kept(judge(points, [scoped(**rules)], NOW)) if each in complete]
    assert len(left) >= min(len(complete), RetentionPolicy(**rules).minimum)


@given(POINTS, POLICIES, st.integers(0, 5000))
def test_judging_often_leaves_what_judging_once_leaves(
    points: list[PointFacts], policies: list[ScopedPolicy], age: int
) -> None:
    earlier = NOW - timedelta(minutes=age) - HOUR
    past = [each for each in points if each.cut_at <= earlier]
    new = [each for each in points if each.cut_at > earlier]
    left = kept(judge(past, policies, earlier))
    assert kept(judge([*left, *new], policies, NOW)) == kept(judge(points, policies, NOW))
