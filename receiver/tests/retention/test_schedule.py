# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import UTC, datetime, time
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from retention.sample_points import at

from livebackup_receiver.retention.schedule import Schedule

BERLIN = ZoneInfo("Europe/Berlin")


def runs(text: str, after: str, count: int, *, last: str | None = None) -> list[datetime]:
    schedule = Schedule.parse(text)
    return list(islice(schedule.runs(at(last or after), after=at(after), zone=BERLIN), count))


@pytest.mark.parametrize(
    "text", ["every 30min", "every 1h", "every 36h", "every 2d", "every 1w", "daily at 02:00,14:00"]
)
def test_a_schedule_is_told_as_it_is_written(text: str) -> None:
    assert str(Schedule.parse(text)) == text


def test_times_of_day_are_sorted_and_told_once() -> None:
    assert str(Schedule.parse("daily at 14:00, 02:00,14:00")) == "daily at 02:00,14:00"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hourly",
        "every 30m",
        "every 0h",
        "every hour",
        "every 1h30min",
        "daily",
        "daily at 2",
        "daily at 24:00",
        "daily at 02:00,",
    ],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(
        ValueError, match='is not a schedule: write "every 1h", with min, h, d or w, or "daily'
    ):
        Schedule.parse(text)


def test_a_schedule_is_an_interval_or_times_of_day() -> None:
    with pytest.raises(ValueError, match="either an interval or times of day"):
        Schedule()
    with pytest.raises(ValueError, match="either an interval or times of day"):
        Schedule(interval_s=3600, times=(time(2),))
    with pytest.raises(ValueError, match="at least a second"):
        Schedule(interval_s=0)


def test_an_interval_is_counted_from_the_last_backup() -> None:
    assert runs("every 1h", "2026-11-20T12:00", 2, last="2026-11-20T11:20") == [
        at("2026-11-20T12:20"),
        at("2026-11-20T13:20"),
    ]
    assert runs("every 1h", "2026-11-20T12:00", 1, last="2026-11-20T11:00") == [at("2026-11-20T13:00")]


def test_times_of_day_are_those_of_the_zone() -> None:
    assert runs("daily at 02:00,14:00", "2026-11-20T12:00", 3) == [
        at("2026-11-20T13:00"),
        at("2026-11-21T01:00"),
        at("2026-11-21T13:00"),
    ]


def test_a_time_of_day_stays_when_the_clock_changes() -> None:
    moments = runs("daily at 12:00", "2026-10-24T00:00", 2)
    assert moments == [at("2026-10-24T12:00+02:00"), at("2026-10-25T12:00+01:00")]
    assert all(moment.tzinfo is UTC for moment in moments)


def test_a_time_that_comes_twice_runs_once() -> None:
    assert runs("daily at 02:30", "2026-10-25T00:00+02:00", 2) == [
        at("2026-10-25T02:30+02:00"),
        at("2026-10-26T02:30+01:00"),
    ]


def test_a_time_that_spring_skips_runs_an_hour_later() -> None:
    assert runs("daily at 02:30,03:10,03:30", "2026-03-29T00:00+01:00", 3) == [
        at("2026-03-29T03:10+02:00"),
        at("2026-03-29T03:30+02:00"),
        at("2026-03-30T02:30+02:00"),
    ]
