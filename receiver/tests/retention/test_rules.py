# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import timedelta

from retention.sample_points import DAY, HOUR, NOW, at, kept, point, rules, scoped, series

from livebackup_receiver.retention.verdicts import PointFacts, judge


def every_half_hour(first: str, count: int) -> list[PointFacts]:
    return [point(at(first) + number * timedelta(minutes=30)) for number in range(count)]


def test_the_last_points_are_counted_and_ranked() -> None:
    verdicts = judge(series(5, DAY), [scoped(keep_last=3)], NOW)
    assert [verdict.keep for verdict in verdicts] == [True, True, True, False, False]
    assert rules(verdicts, "last") == ["last 3 (1st)", "last 3 (2nd)", "last 3 (3rd)"]


def test_incomplete_points_are_among_the_last() -> None:
    points = [point(NOW, complete=False), *series(3, DAY, last=NOW - HOUR)]
    assert kept(judge(points, [scoped(keep_last=2)], NOW)) == points[:2]


def test_within_reaches_exactly_so_far_back() -> None:
    points = series(20, DAY)
    verdicts = judge(points, [scoped(keep_within="14d")], NOW)
    assert kept(verdicts) == points[:15]
    assert verdicts[14].rules == ("within 14d",)


def test_a_year_of_hourly_backups_leaves_what_the_rules_say() -> None:
    points = series(366 * 24, HOUR)
    verdicts = judge(points, [scoped(hourly=24, daily=7, weekly=4, monthly=12)], NOW)
    for rule, count in (("hourly", 24), ("daily", 7), ("weekly", 4), ("monthly", 12)):
        assert len(rules(verdicts, rule)) == count
    # of the days 2 are among the hours, of the weeks 2 among these, of the months 1
    assert len(kept(verdicts)) == 24 + 5 + 2 + 11
    assert rules(verdicts, "weekly") == [
        "weekly 2026-W47",
        "weekly 2026-W46",
        "weekly 2026-W45",
        "weekly 2026-W44",
    ]
    assert kept(verdicts)[-1].cut_at == at("2025-12-31T23:00")


def test_the_newest_point_of_a_day_is_kept() -> None:
    points = [point(text) for text in ("2026-11-19T02:00", "2026-11-19T14:00", "2026-11-18T02:00")]
    assert [each.cut_at for each in kept(judge(points, [scoped(daily=2)], NOW))] == [
        at("2026-11-19T14:00"),
        at("2026-11-18T02:00"),
    ]


def test_days_without_a_backup_are_not_counted() -> None:
    points = [point(text) for text in ("2026-11-19T02:00", "2026-11-03T02:00", "2026-08-01T02:00")]
    verdicts = judge(points, [scoped(daily=3)], NOW)
    assert rules(verdicts, "daily") == ["daily 2026-11-19", "daily 2026-11-03", "daily 2026-08-01"]


def test_the_hour_that_comes_twice_in_autumn_is_two_hours() -> None:
    points = every_half_hour("2026-10-25T01:00+02:00", 8)
    verdicts = judge(points, [scoped(hourly=24, time_zone="Europe/Berlin")], NOW)
    assert rules(verdicts, "hourly") == [
        "hourly 2026-10-25 03:00+01:00",
        "hourly 2026-10-25 02:00+01:00",
        "hourly 2026-10-25 02:00+02:00",
        "hourly 2026-10-25 01:00+02:00",
    ]


def test_the_hour_that_spring_skips_is_none() -> None:
    points = every_half_hour("2026-03-29T01:00+01:00", 4)
    verdicts = judge(points, [scoped(hourly=24, time_zone="Europe/Berlin")], NOW)
    assert rules(verdicts, "hourly") == ["hourly 2026-03-29 03:00+02:00", "hourly 2026-03-29 01:00+01:00"]


def test_days_of_25_and_23_hours_are_days() -> None:
    autumn = [point(at("2026-10-25T00:00+02:00") + number * HOUR) for number in range(25)]
    spring = [point(at("2026-03-29T00:00+01:00") + number * HOUR) for number in range(23)]
    verdicts = judge(autumn + spring, [scoped(daily=10, time_zone="Europe/Berlin")], NOW)
    assert kept(verdicts) == [autumn[-1], spring[-1]]
    assert rules(verdicts, "daily") == ["daily 2026-10-25", "daily 2026-03-29"]


def test_hours_and_days_of_a_zone_with_an_odd_offset() -> None:
    points = [point(text) for text in ("2026-11-19T18:14", "2026-11-19T18:10", "2026-11-19T18:15")]
    verdicts = judge(points, [scoped(hourly=5, daily=5, time_zone="Asia/Kathmandu")], NOW)
    assert rules(verdicts, "hourly") == [
        "hourly 2026-11-20 00:00+05:45",
        "hourly 2026-11-19 23:00+05:45",
    ]
    assert rules(verdicts, "daily") == ["daily 2026-11-20", "daily 2026-11-19"]
    assert [each.cut_at for each in kept(verdicts)] == [at("2026-11-19T18:15"), at("2026-11-19T18:14")]


def test_the_week_around_new_year_is_one() -> None:
    points = [
        point(f"{day}T02:00")
        for day in ("2026-12-27", "2026-12-28", "2026-12-31", "2027-01-01", "2027-01-04")
    ]
    verdicts = judge(points, [scoped(weekly=3, yearly=2)], at("2027-01-05"))
    assert rules(verdicts, "weekly") == ["weekly 2027-W01", "weekly 2026-W53", "weekly 2026-W52"]
    assert [each.cut_at.date().isoformat() for each in kept(verdicts)] == [
        "2027-01-04",
        "2027-01-01",
        "2026-12-31",
        "2026-12-27",
    ]


def test_an_incomplete_point_does_not_take_the_place_of_a_complete_one() -> None:
    complete = point("2026-11-18T02:00")
    later = point("2026-11-18T14:00", complete=False)
    verdicts = judge([point(NOW), later, complete], [scoped(daily=7)], NOW)
    assert kept(verdicts) == [point(NOW), complete]


def test_an_incomplete_point_is_better_than_none() -> None:
    points = [
        point(NOW),
        point("2026-11-18T14:00", complete=False),
        point("2026-11-18T02:00", complete=False),
    ]
    verdicts = judge(points, [scoped(daily=7)], NOW)
    assert kept(verdicts) == points[:2]


def test_the_minimum_is_of_complete_points() -> None:
    points = [point(NOW, complete=False), *series(5, DAY, last=NOW - DAY)]
    verdicts = judge(points, [scoped(keep_within="1h", minimum=3)], NOW)
    assert kept(verdicts) == points[:4]
    assert verdicts[3].rules == ("minimum of 3",)


def test_a_policy_of_nothing_keeps_the_minimum() -> None:
    points = series(5, DAY)
    assert kept(judge(points, [scoped(keep_last=0, minimum=2)], NOW)) == points[:2]


def test_a_minimum_of_more_than_there_is_keeps_all() -> None:
    points = series(5, 100 * DAY)
    assert kept(judge(points, [scoped(keep_last=1, minimum=9)], NOW)) == points
