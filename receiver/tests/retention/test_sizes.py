# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retention.sample_points import DAY, DISK, HOUR, NOW, point

from livebackup_receiver.retention.sizes import NOTHING, Chain, DiskEstimate, Layer, estimate
from livebackup_receiver.retention.verdicts import PointFacts

HOUR_S = 3600.0


def history(*layers: Layer) -> tuple[list[PointFacts], dict[str, dict[tuple[str, str], Layer]]]:
    """Hourly points, oldest first, that store these layers of the disk."""
    points = [point(NOW + number * HOUR) for number in range(len(layers))]
    return points, {each.id: {DISK: layer} for each, layer in zip(points, layers, strict=True)}


def test_an_increment_costs_the_median_of_recent_ones() -> None:
    points, layers = history(Layer(1000, full=True), *map(Layer, (10, 500, 20)))
    estimated = estimate(DISK, points, layers)
    assert estimated.full_bytes == 1000
    assert estimated.increment(HOUR_S) == Layer(20)


def test_only_the_last_30_increments_count() -> None:
    points, layers = history(Layer(1000, full=True), *[Layer(400)] * 40, *[Layer(10)] * 30)
    assert estimate(DISK, points, layers).increment(HOUR_S) == Layer(10)


def test_longer_spans_change_more_but_never_more_than_all() -> None:
    points, layers = history(Layer(1000, full=True), Layer(100))
    estimated = estimate(DISK, points, layers)
    assert [estimated.increment(hours * HOUR_S).stored_bytes for hours in (1, 2, 24, 1000)] == [
        100,
        190,
        920,
        1000,
    ]


def test_increments_of_other_spans_are_reckoned_by_time() -> None:
    points = [point(NOW), point(NOW + DAY)]
    layers = {points[0].id: {DISK: Layer(1000, full=True)}, points[1].id: {DISK: Layer(920)}}
    assert estimate(DISK, points, layers).increment(HOUR_S).stored_bytes == pytest.approx(100, abs=1)


def test_a_disk_without_increments_has_no_known_rate() -> None:
    points, layers = history(Layer(1000, full=True))
    estimated = estimate(DISK, points, layers)
    assert estimated.rate is None
    assert estimated.increment(HOUR_S) == NOTHING


def test_an_increment_of_everything_costs_everything() -> None:
    points, layers = history(Layer(1000, full=True), Layer(1000))
    assert estimate(DISK, points, layers).increment(HOUR_S) == Layer(1000)


def test_the_newest_full_layer_says_how_big_a_disk_is() -> None:
    points, layers = history(Layer(5000, full=True), Layer(10), Layer(1000, full=True), Layer(10))
    assert estimate(DISK, points, layers).full_bytes == 1000


def test_an_empty_history_costs_nothing() -> None:
    points, dummy = history(NOTHING, NOTHING)
    assert estimate(DISK, points, {}).increment(HOUR_S) == NOTHING


def chain(*layers: Layer) -> tuple[Chain, list[PointFacts]]:
    points, dummy = history(*layers)
    made = Chain(DiskEstimate(1000, None))
    for each, layer in zip(points, layers, strict=True):
        made.add(each, layer)
    return made, points


def test_the_next_point_takes_over_what_it_has_not_overwritten() -> None:
    made, points = chain(Layer(1000, full=True), Layer(100), Layer(100))
    made.drop(points[1])
    assert made.stored_bytes == 1000 + 190


def test_dropping_the_base_frees_what_the_next_point_overwrites() -> None:
    made, points = chain(Layer(1000, full=True), Layer(100), Layer(100))
    made.drop(points[0])
    assert made.stored_bytes == 1000 + 100


def test_a_full_layer_takes_over_nothing() -> None:
    made, points = chain(Layer(1000, full=True), Layer(100), Layer(900, full=True))
    made.drop(points[1])
    assert made.stored_bytes == 1900
    made.drop(points[0])
    assert made.stored_bytes == 900


def test_the_point_after_a_dropped_base_is_the_new_base() -> None:
    made, points = chain(Layer(500, full=True), Layer(900, full=True), Layer(100))
    made.drop(points[1])
    made.drop(points[0])
    assert made.stored_bytes == 910


def test_dropping_the_last_point_of_a_disk_frees_all_of_it() -> None:
    made, points = chain(Layer(1000, full=True), Layer(100))
    for each in reversed(points):
        made.drop(each)
    assert made.stored_bytes == 0


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_dropping_a_point_never_costs_room_nor_frees_more_than_it_stored(
    sizes: list[int], random: Random
) -> None:
    made, points = chain(Layer(1000, full=True), *map(Layer, sizes))
    random.shuffle(points)
    while points:
        before = made.stored_bytes
        made.drop(points.pop())
        assert 0 <= made.stored_bytes <= before
    assert made.stored_bytes == 0
