# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retention.sample_points import NOW, at

from livebackup_receiver.retention.periods import Calendar, Periods
from livebackup_receiver.retention.policy import time_zone

ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "America/Havana", "Australia/Lord_Howe")


@pytest.mark.parametrize(
    ("zone", "moment", "labels"),
    [
        ("UTC", "2026-11-20T14:59", ["2026-11-20 14:00+00:00", "2026-11-20", "2026-W47", "2026-11", "2026"]),
        (
            "Europe/Berlin",
            "2025-12-31T23:30",
            ["2026-01-01 00:00+01:00", "2026-01-01", "2026-W01", "2026-01", "2026"],
        ),
        (
            "Asia/Kathmandu",
            "2026-11-20T18:14",
            ["2026-11-20 23:00+05:45", "2026-11-20", "2026-W47", "2026-11", "2026"],
        ),
        ("UTC", "2027-01-03T23:59", ["2027-01-03 23:00+00:00", "2027-01-03", "2026-W53", "2027-01", "2027"]),
    ],
)
def test_people_recognise_their_periods(zone: str, moment: str, labels: list[str]) -> None:
    calendar = Calendar(time_zone(zone))
    assert [calendar.label(rule, at(moment)) for rule in Periods._fields] == labels


def test_a_time_of_day_is_told_unless_it_is_midnight() -> None:
    calendar = Calendar(time_zone("Europe/Berlin"))
    assert calendar.day_or_minute(at("2026-11-30T23:00")) == "2026-12-01"
    assert calendar.day_or_minute(at("2026-12-01T13:30")) == "2026-12-01 14:30+01:00"


@given(st.sampled_from(ZONES), st.integers(-(10**9), 10**9), st.integers(0, 10**6))
def test_periods_have_one_name_and_come_one_after_another(zone: str, start_s: int, span_s: int) -> None:
    calendar = Calendar(time_zone(zone))
    first = NOW + timedelta(seconds=start_s)
    later = first + timedelta(seconds=span_s)
    for rule, before, after in zip(
        Periods._fields, calendar.periods(first), calendar.periods(later), strict=True
    ):
        assert before <= after
        assert (before == after) == (calendar.label(rule, first) == calendar.label(rule, later))
