# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs of clusters are sets of numbers."""

from __future__ import annotations

import random

from ansible_collections.livebackup.qemu.plugins.module_utils import _runs


def numbers(runs: list[_runs.Run]) -> set[int]:
    return {number for first, count in runs for number in range(first, first + count)}


def runs_of(found: set[int]) -> list[_runs.Run]:
    return _runs.joined((number, 1) for number in found)


def test_they_behave_as_sets() -> None:
    chance = random.Random(5)
    for dummy in range(300):
        one, other = ({number for number in range(30) if chance.random() < 0.5} for dummy in "12")
        these, those = runs_of(one), runs_of(other)
        assert numbers(these) == one
        assert numbers(_runs.common(these, those)) == one & other
        assert numbers(_runs.without(these, those)) == one - other
        assert _runs.count_of(these) == len(one)
        assert runs_of(one - other) == _runs.without(these, those)
        assert numbers(list(_runs.pieces(these, 3))) == one
        assert all(count <= 3 for dummy, count in _runs.pieces(these, 3))


def test_runs_that_overlap_or_touch_become_one() -> None:
    assert _runs.joined([(5, 2), (0, 3), (3, 2), (6, 4), (20, 0)]) == [(0, 10)]
