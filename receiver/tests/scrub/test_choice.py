# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which layers are read on which day; days count from NOW."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from sample_records import NOW

from livebackup_receiver.scrub.choice import Candidate, choose


def day(number: float) -> datetime:
    return NOW + timedelta(days=number)


def layer(
    name: str, checked: float | None = None, *, made: float = -100, size: int = 10, suspect: bool = False
) -> Candidate:
    return Candidate("db", "vd-a", name, size, day(made), None if checked is None else day(checked), suspect)


def names(layers: list[Candidate], *, now: float = 0, days: float = 30) -> list[str]:
    return [each.point for each in choose(layers, now=day(now), days=days)]


def test_the_longest_unread_come_first() -> None:
    layers = [layer(f"l{number}", -20 - number) for number in range(30)]
    assert names(layers, days=15) == ["l29", "l28"]


def test_what_was_never_read_comes_before_what_was() -> None:
    assert names([layer("old", -29), layer("new", made=-2)], days=30) == ["new"]


def test_what_is_long_overdue_does_not_wait_for_what_is_new() -> None:
    assert names([layer("old", -60), layer("new", made=-2)], days=30) == ["old"]


def test_what_was_made_today_is_not_read_today() -> None:
    assert names([layer("new", made=-0.5)]) == []


def test_today_s_share_is_read_once() -> None:
    layers = [layer(f"l{number}", -40) for number in range(30)]
    assert names(layers) == ["l0"]
    layers[0] = layer("l0", -0.2)
    assert names(layers) == []
    assert names(layers, now=1) == ["l1"]


def test_a_layer_larger_than_the_share_is_read_and_then_left_alone() -> None:
    assert names([layer("huge", -40, size=1000)]) == ["huge"]
    assert names([layer("huge", -5, size=1000)]) == []


def test_what_came_from_damaged_layers_is_read_before_all_others() -> None:
    assert names([layer("never"), layer("merged", made=0, suspect=True)], days=2) == ["merged"]


def test_what_could_not_be_read_is_tried_again_on_the_next_day() -> None:
    unread = replace(layer("lost", -0.5), unread=True)
    assert names([unread]) == []
    assert names([unread], now=1) == ["lost"]


def test_nothing_is_read_if_nobody_wants_it() -> None:
    assert names([layer("never"), layer("old", -1000)], days=0) == []


@given(st.lists(st.integers(1, 200), min_size=1, max_size=40), st.integers(2, 20))
def test_in_time_every_layer_is_read(sizes: list[int], days: int) -> None:
    """Whatever their sizes: no layer is older than the time and a half, but for its share's rounding."""
    layers = [layer(f"l{number:02}", size=size) for number, size in enumerate(sizes)]
    for today in range(3 * days):
        read = set(names(layers, now=today, days=days))
        layers = [
            layer(each.point, today, size=each.stored_bytes) if each.point in read else each
            for each in layers
        ]
        if today > days:
            oldest = min(each.checked_at for each in layers if each.checked_at)
            assert all(each.checked_at for each in layers)
            assert day(today) - oldest <= timedelta(days=1.5 * days + 1)
