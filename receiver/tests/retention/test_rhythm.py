# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import timedelta

import pytest
from retention.sample_points import DAY, HOUR, NOW, point, series

from livebackup_receiver.retention.rhythm import usual_schedule

MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("step", "schedule"),
    [
        (HOUR, "every 1h"),
        (HOUR + 40 * timedelta(seconds=1), "every 1h"),
        (31 * MINUTE, "every 30min"),
        (MINUTE, "every 5min"),
        (6 * HOUR, "every 6h"),
        (DAY - 3 * MINUTE, "every 1d"),
        (7 * DAY, "every 1w"),
    ],
)
def test_the_interval_is_told_as_people_set_it(step: timedelta, schedule: str) -> None:
    assert str(usual_schedule(series(10, step))) == schedule


def test_a_backup_by_hand_does_not_matter() -> None:
    points = [point(NOW + MINUTE), *series(10, DAY)]
    assert str(usual_schedule(points)) == "every 1d"


def test_only_lately_counts() -> None:
    points = [*series(40, HOUR), *series(100, DAY, last=NOW - 41 * HOUR)]
    assert str(usual_schedule(points)) == "every 1h"


def test_one_point_tells_nothing() -> None:
    assert usual_schedule(series(1, DAY)) is None
    assert usual_schedule([]) is None
