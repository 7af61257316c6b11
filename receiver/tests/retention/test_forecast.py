# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import datetime

import pytest
from retention.sample_points import DAY, HOUR, NOW

from livebackup_receiver.retention.forecast import Forecast, ForecastPoint, Step

EXISTING = ForecastPoint("A", NOW - DAY, NOW + HOUR)
PLANNED = ForecastPoint(None, NOW + HOUR, None)
FORECAST = Forecast(
    steps=(Step(NOW, 1, 1000), Step(NOW + HOUR, 1, 1010), Step(NOW + DAY, 1, 1010)),
    peak=Step(NOW + HOUR, 2, 1020),
    points=(PLANNED, EXISTING),
    unknown_disks=(),
)


def test_each_moment_has_the_points_and_bytes_of_the_step_before_it() -> None:
    first = FORECAST.on(NOW + HOUR / 2)
    assert (first.points, first.count, first.estimated_bytes) == ((EXISTING,), 1, 1000)
    second = FORECAST.on(NOW + HOUR)
    assert (second.points, second.count, second.estimated_bytes) == ((PLANNED,), 1, 1010)
    assert FORECAST.on(NOW + DAY).points == (PLANNED,)


@pytest.mark.parametrize("moment", [NOW - HOUR, NOW + 2 * DAY])
def test_outside_the_forecast_nothing_is_said(moment: datetime) -> None:
    sentence = r"the forecast is from 2026-11-20T12:00:00\+00:00 to 2026-11-21T12:00:00\+00:00, not of"
    with pytest.raises(ValueError, match=sentence):
        FORECAST.on(moment)
