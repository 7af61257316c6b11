# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from retention.sample_points import at

from livebackup_receiver.retention.durations import Duration

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "moment", "earlier"),
    [
        ("36h", "2026-03-29T12:00+02:00", "2026-03-27T23:00+01:00"),
        ("1d", "2026-03-29T12:00+02:00", "2026-03-28T12:00+01:00"),
        ("1d", "2026-10-26T00:30+01:00", "2026-10-25T00:30+02:00"),
        ("2w", "2026-11-20T09:00+01:00", "2026-11-06T09:00+01:00"),
        ("6m", "2026-08-31T09:00+02:00", "2026-02-28T09:00+01:00"),
        ("1m", "2026-01-31T09:00+01:00", "2025-12-31T09:00+01:00"),
        ("2y", "2028-02-29T09:00+01:00", "2026-02-28T09:00+01:00"),
    ],
)
def test_the_calendar_of_the_zone_counts(text: str, moment: str, earlier: str) -> None:
    assert Duration.parse(text).before(at(moment), BERLIN) == at(earlier)


def test_of_an_hour_that_comes_twice_the_first_is_meant() -> None:
    assert Duration.parse("1d").before(at("2026-10-26T02:30+01:00"), BERLIN) == at("2026-10-25T02:30+02:00")


@pytest.mark.parametrize("text", ["9999h", "9999d", "9999w", "9999m", "9999y"])
def test_longer_than_anything_is_simply_long_ago(text: str) -> None:
    assert Duration.parse(text).before(at("2026-11-20"), BERLIN) < at("2026-01-01")


@pytest.mark.parametrize("text", ["", "14", "d", "0d", "-1d", "14 d", "1.5d", "14D", "1d12h", "10000d", "²d"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r'is not a duration: .* such as "14d"'):
        Duration.parse(text)


def test_the_text_stays_as_written() -> None:
    assert str(Duration.parse("8w")) == "8w"
    assert Duration.parse("8w").before(datetime(2026, 3, 1, tzinfo=BERLIN), BERLIN).tzname() == "UTC"
