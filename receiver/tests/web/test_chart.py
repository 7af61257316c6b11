# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The curve of a forecast."""

from __future__ import annotations

from datetime import timedelta

from sample_records import NOW

from livebackup_receiver.retention.outlook import ForecastStep
from livebackup_receiver.web.chart import HEIGHT, WIDTH, chart_of

DAY = timedelta(days=1)


def step(days: float, size: int) -> ForecastStep:
    return ForecastStep(at=NOW + days * DAY, count=1, estimated_bytes=size)


def corners(*steps: ForecastStep) -> list[tuple[int, int]]:
    return [(int(x), int(y)) for x, y in (pair.split(",") for pair in chart_of(steps).area.split())]


def test_sizes_stay_until_they_change() -> None:
    half = WIDTH // 2
    assert corners(step(0, 50), step(5, 100), step(10, 100)) == [
        (0, HEIGHT),
        (0, HEIGHT),
        (0, HEIGHT // 2),
        (half, HEIGHT // 2),
        (half, 0),
        (WIDTH, 0),
        (WIDTH, 0),
        (WIDTH, 0),
        (WIDTH, HEIGHT),
    ]


def test_a_year_of_hours_is_no_longer_than_the_screen_is_wide() -> None:
    shown = corners(*(step(hour / 24, 1000 + hour % 7) for hour in range(365 * 24)))
    assert len(shown) <= 2 * WIDTH + 8
    assert {y for x, y in shown[2:-1]} == {0}


def test_nothing_is_drawn_as_nothing() -> None:
    assert {y for x, y in corners(step(0, 0), step(10, 0))} == {HEIGHT}
