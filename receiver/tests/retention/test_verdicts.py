# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from retention.sample_points import DAY, DISK, HOUR, NOW, at, kept, point, rules, scoped, series

from livebackup_receiver.retention.verdicts import judge

WEB = ("web1", "virtio0")
OLD = "2024-02-01T03:00"


def test_every_rule_that_keeps_a_point_is_named() -> None:
    policy = scoped(keep_last=3, keep_within="14d", daily=7, weekly=4, monthly=12, yearly=1)
    (verdict,) = judge([point(NOW)], [policy], NOW)
    assert verdict.rules == (
        "newest point",
        "newest complete point",
        "last 3 (1st)",
        "within 14d",
        "daily 2026-11-20",
        "weekly 2026-W47",
        "monthly 2026-11",
        "yearly 2026",
        "minimum of 1",
    )


def test_a_point_that_goes_has_no_rule() -> None:
    verdict = judge(series(3, DAY), [scoped(keep_last=2)], NOW)[-1]
    assert (verdict.keep, verdict.rules) == (False, ())


def test_no_points_no_verdicts() -> None:
    assert judge([], [scoped(daily=7)], NOW) == []


def test_any_order_in_newest_first_out() -> None:
    points = series(5, HOUR)
    assert [each.point for each in judge(points[::2] + points[1::2], [scoped(daily=7)], NOW)] == points


def test_points_of_one_moment_are_in_the_order_of_their_ids() -> None:
    first, second = point(NOW, id="A"), point(NOW, id="B")
    assert [each.point for each in judge([first, second], [scoped(keep_last=1)], NOW)] == [second, first]


def test_the_hour_that_comes_twice_is_ordered_whatever_zone_the_times_are_in() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    before = point(datetime(2026, 10, 25, 2, 30, fold=0, tzinfo=berlin))
    after = point(datetime(2026, 10, 25, 2, 10, fold=1, tzinfo=berlin))
    assert [each.point for each in judge([after, before], [scoped(keep_last=1)], NOW)] == [after, before]


def test_a_group_without_a_policy_keeps_everything() -> None:
    others = [
        scoped("group:other", keep_last=1),
        scoped("vm:web1", keep_last=1),
        scoped("disk:db1/b", daily=1),
    ]
    verdicts = judge(series(3, DAY), others, NOW)
    assert [verdict.rules[-1] for verdict in verdicts] == ["no policy"] * 3
    assert all(verdict.keep for verdict in verdicts)


def test_a_pin_holds_until_it_ends() -> None:
    pinned = point(OLD, pin_reason="before the upgrade", pin_until=at("2026-12-01T00:00+01:00"))
    points, policies = [*series(2, HOUR), pinned], [scoped(keep_last=1, time_zone="Europe/Berlin")]
    assert judge(points, policies, NOW)[-1].rules == ("pinned: before the upgrade (until 2026-12-01)",)
    assert judge(points, policies, at("2026-11-30T22:59"))[-1].keep
    assert not judge(points, policies, at("2026-11-30T23:00"))[-1].keep


def test_a_pin_without_end_holds() -> None:
    pinned = point(OLD, pin_reason="for the auditors")
    verdict = judge([point(NOW), pinned], [scoped(keep_last=1)], at("2126-01-01"))[-1]
    assert verdict.rules == ("pinned: for the auditors",)


def test_a_lock_holds_until_it_ends() -> None:
    locked = point(OLD, locked_until=at("2027-01-01"))
    points, policies = [point(NOW), locked], [scoped(keep_last=1)]
    assert judge(points, policies, NOW)[-1].rules == ("locked until 2027-01-01",)
    assert not judge(points, policies, at("2027-01-01"))[-1].keep


def test_the_newest_complete_point_outlives_a_series_of_incomplete_ones() -> None:
    complete = point(OLD)
    points = [*(point(NOW - number * DAY, complete=False) for number in range(9)), complete]
    verdicts = judge(points, [scoped(keep_last=2)], NOW)
    assert kept(verdicts) == [*points[:2], complete]
    assert verdicts[0].rules == ("newest point", "last 2 (1st)")
    assert verdicts[-1].rules == ("newest complete point", "minimum of 1")


def test_points_of_the_future_are_kept_and_take_nobodys_place() -> None:
    future, points = series(3, DAY, last=at("2030-01-05")), series(3, DAY)
    verdicts = judge(future + points, [scoped(keep_last=2)], NOW)
    assert kept(verdicts) == future + points[:2]
    assert [each.rules for each in verdicts[:3]] == [("cut in the future",)] * 3
    assert rules(verdicts, "newest point") == ["newest point"]


def test_a_policy_of_a_vm_is_judged_over_the_points_that_hold_it() -> None:
    points = [
        point(NOW, disks=(WEB,)),
        point(NOW - DAY, disks=(WEB, DISK)),
        point(NOW - 2 * DAY, disks=(WEB,)),
        point(NOW - 3 * DAY, disks=(DISK,)),
    ]
    verdicts = judge(points, [scoped(keep_last=1), scoped("vm:db1", keep_last=2)], NOW)
    assert kept(verdicts) == [points[0], points[1], points[3]]
    assert verdicts[3].rules == ("vm db1: last 2 (2nd)",)


def test_a_policy_of_a_disk_keeps_the_whole_point() -> None:
    second = ("db1", "virtio1")
    points = [point(NOW, disks=(DISK,)), point(NOW - DAY, disks=(DISK, second)), point(NOW - 2 * DAY)]
    verdicts = judge(points, [scoped(keep_last=1), scoped("disk:db1/virtio1", daily=7)], NOW)
    assert kept(verdicts) == points[:2]
    assert verdicts[1].rules == ("disk db1/virtio1: daily 2026-11-19", "disk db1/virtio1: minimum of 1")


def test_what_no_policy_is_for_stays_beside_what_one_is_for() -> None:
    points = [*series(2, DAY), point(OLD, disks=(WEB,))]
    verdicts = judge(points, [scoped("vm:db1", keep_last=1)], NOW)
    assert kept(verdicts) == [points[0], points[2]]
    assert verdicts[2].rules == ("no policy",)


def test_policies_of_different_zones_see_different_days() -> None:
    points = [point("2026-11-19T23:30"), point("2026-11-19T22:30")]
    policies = [scoped(daily=5), scoped("vm:db1", daily=5, time_zone="Europe/Berlin")]
    verdicts = judge(points, policies, NOW)
    assert rules(verdicts, "daily") == ["daily 2026-11-19"]
    assert rules(verdicts, "vm db1: daily") == ["vm db1: daily 2026-11-20", "vm db1: daily 2026-11-19"]


def test_points_of_several_groups_are_not_judged_together() -> None:
    with pytest.raises(ValueError, match="one group are judged together, not those of nightly, weekly"):
        judge([point(NOW), point(NOW - DAY, group="weekly")], [], NOW)


def test_a_cut_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="point A: the time of its cut has no time zone"):
        point(datetime(2026, 11, 20), id="A")
