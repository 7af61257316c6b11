# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from livebackup_receiver.store.ranges import clusters_of, coarsened, ranges_of, words

CLUSTER = 65536
numbers = st.sets(st.integers(0, 300))


@given(numbers)
def test_clusters_become_ranges_and_clusters_again(chosen: set[int]) -> None:
    clusters = np.array(sorted(chosen), np.uint64)
    ranges = ranges_of(clusters, 1 << 40)
    assert clusters_of(ranges).tolist() == sorted(chosen)
    assert all(a + n < b for (a, n), (b, dummy) in pairwise(ranges))


def test_the_last_range_ends_with_the_disk() -> None:
    assert ranges_of(np.array([2, 3], np.uint64), 3 * CLUSTER + 512) == [(2 * CLUSTER, CLUSTER + 512)]
    assert ranges_of(np.array([9], np.uint64), 3 * CLUSTER) == []


@given(numbers, st.integers(1, 9))
def test_fewer_ranges_leave_nothing_out(chosen: set[int], limit: int) -> None:
    ranges = ranges_of(np.array(sorted(chosen), np.uint64), 1 << 40)
    fewer = coarsened(ranges, limit)
    assert len(fewer) <= limit or not ranges
    assert chosen <= set(clusters_of(fewer).tolist())


def test_the_smallest_gaps_are_filled() -> None:
    assert coarsened([(0, 1), (2, 1), (10, 1), (13, 1)], 2) == [(0, 3), (10, 4)]


def test_people_are_told_the_first_few() -> None:
    assert words([(0, 65536), (131072, 512)]) == "0 to 65536, 131072 to 131584"
    assert words([(number * 2, 1) for number in range(8)]).endswith("8 to 9 and 3 more ranges")
