# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from retention.sample_points import DAY, HOUR, NOW, scoped, series

from livebackup_receiver.retention.outlook import RetentionForecast, by_month, outlook
from livebackup_receiver.retention.schedule import Schedule
from livebackup_receiver.retention.simulate import simulate


def forecast(days: int = 100) -> RetentionForecast:
    policies = [scoped(daily=7)]
    schedule = Schedule.parse("every 1d")
    found = simulate(
        "nightly",
        series(3, DAY),
        history={},
        schedule=schedule,
        policies=policies,
        now=NOW,
        until=NOW + days * DAY,
    )
    return outlook("nightly", str(schedule), policies, found)


def test_a_forecast_survives_json() -> None:
    made = forecast()
    assert RetentionForecast.model_validate_json(made.model_dump_json()) == made


def test_what_is_there_on_a_date() -> None:
    there = forecast().on(NOW + 4 * DAY + HOUR)
    assert [each.cut_at for each in there] == [NOW + (4 - number) * DAY for number in range(7)]
    assert [bool(each.id) for each in there] == [False] * 4 + [True] * 3


@pytest.mark.parametrize("moment", [NOW - HOUR, NOW + 101 * DAY])
def test_a_date_outside_is_refused(moment: datetime) -> None:
    with pytest.raises(ValueError, match="the forecast is from"):
        forecast().on(moment)


def test_months_are_seen_at_their_ends() -> None:
    rows = by_month(forecast().steps)
    assert [f"{each.at:%m-%d}" for each in rows] == ["11-20", "11-30", "12-31", "01-31", "02-28"]
    assert [each.count for each in rows] == [3, 7, 7, 7, 7]


def test_a_forecast_of_an_hour_has_a_beginning_and_an_end() -> None:
    made = simulate(
        "nightly",
        [],
        history={},
        schedule=Schedule(interval_s=7200),
        policies=[],
        now=NOW,
        until=NOW + timedelta(hours=1),
    )
    rows = by_month(outlook("nightly", "every 2h", [], made).steps)
    assert [each.at for each in rows] == [NOW, NOW + HOUR]
