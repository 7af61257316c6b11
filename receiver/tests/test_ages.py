# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ages in words."""

from __future__ import annotations

from datetime import timedelta

import pytest

from livebackup_receiver.ages import describe


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (timedelta(seconds=0), "a moment"),
        (timedelta(minutes=5), "5 minutes"),
        (timedelta(hours=23), "23 hours"),
        (timedelta(hours=25), "25 hours"),
        (timedelta(hours=47, minutes=59), "47 hours"),
        (timedelta(days=4), "4 days"),
    ],
)
def test_ages_around_a_day_are_counted_in_hours(age: timedelta, words: str) -> None:
    assert describe(age) == words
