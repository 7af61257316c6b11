# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values as people read them."""

from __future__ import annotations

import pytest
from sample_records import NOW

from livebackup_receiver.web import wording


def test_a_time_is_shown_in_utc_to_the_second() -> None:
    assert wording.utc("2026-03-01T04:00:00.250+01:00") == "2026-03-01 03:00:00"


def test_steps_of_a_cut_are_told_apart_by_milliseconds() -> None:
    assert wording.clock("2026-03-01T03:00:00.250Z") == "03:00:00.250"
    assert wording.offset("2026-03-01T03:00:01.204Z", "2026-03-01T03:00:00Z") == "+1.204 s"


def test_an_age_has_one_unit() -> None:
    assert wording.age("2026-03-01T00:40:00Z", NOW) == "2 hours ago"


@pytest.mark.parametrize(
    ("count", "words"), [(None, "unknown"), (0, "0 Bytes"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")]
)
def test_sizes_are_binary_and_an_unknown_one_is_not_zero(count: int | None, words: str) -> None:
    assert wording.size(count) == words


@pytest.mark.parametrize(("milliseconds", "words"), [(None, "unknown"), (23.4, "23 ms"), (1500.0, "1.5 s")])
def test_pauses(milliseconds: float | None, words: str) -> None:
    assert wording.pause(milliseconds) == words


def test_a_state_nobody_thought_of_looks_busy_and_not_good() -> None:
    assert wording.mood("whatever") == "busy"


def test_a_name_becomes_an_id_without_blanks() -> None:
    assert wording.anchor("freshness of Nightly 2") == "freshness-of-nightly-2"
