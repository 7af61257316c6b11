# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom the damage of a layer hurts: ``"a b c"`` is a chain, each point on the one before."""

from __future__ import annotations

import numpy as np

from livebackup_receiver.scrub.finding import Finding, Result
from livebackup_receiver.scrub.harm import harms
from livebackup_receiver.store.ranges import Range, ranges_of

CLUSTER = 65536
A, B, C = ((number * CLUSTER, CLUSTER) for number in range(3))


def damaged(*ranges: Range) -> Finding:
    return Finding(result=Result.DAMAGED, ranges=list(ranges))


def hurt(
    parents: dict[str, str | None], findings: dict[str, Finding], holds: dict[str, list[int]] | None = None
) -> dict[str, list[Range] | None]:
    """For each point that is hurt the ranges; None: all of it."""
    held = {point: np.array((holds or {}).get(point, []), np.uint64) for point in parents}
    return {
        point: None if harm.clusters is None else ranges_of(harm.clusters, 1 << 30)
        for point, harm in harms(parents, findings, held.__getitem__).items()
    }


CHAIN: dict[str, str | None] = {"a": None, "b": "a", "c": "b"}


def test_all_that_lies_on_a_damaged_layer_is_hurt() -> None:
    assert hurt(CHAIN, {"b": damaged(A)}) == {"b": [A], "c": [A]}


def test_what_a_layer_above_holds_itself_hurts_nobody_further_up() -> None:
    assert hurt(CHAIN, {"a": damaged(A)}, {"b": [0]}) == {"a": [A]}
    assert hurt(CHAIN, {"a": damaged(A, C)}, {"b": [0, 7], "c": [1, 2]}) == {"a": [A, C], "b": [C]}


def test_each_branch_is_looked_at() -> None:
    tree = {**CHAIN, "d": "a"}
    assert hurt(tree, {"a": damaged(A)}, {"b": [0]}) == {"a": [A], "d": [A]}


def test_a_layer_that_cannot_be_opened_hurts_all_that_needs_it() -> None:
    assert hurt(CHAIN, {"b": damaged()}, {"c": [0, 1, 2]}) == {"b": None, "c": None}


def test_damage_of_several_layers_adds_up() -> None:
    found = hurt(CHAIN, {"a": damaged(A), "b": damaged(B)})
    assert found == {"a": [A], "b": [(0, 2 * CLUSTER)], "c": [(0, 2 * CLUSTER)]}
    assert hurt(CHAIN, {"a": damaged(), "b": damaged(B)})["c"] is None


def test_a_layer_that_is_good_but_for_its_table_hurts_nobody() -> None:
    assert hurt(CHAIN, {"a": Finding(result=Result.UNREADABLE, problem="no table")}) == {}


def test_what_could_not_be_read_is_as_bad_as_what_is_damaged() -> None:
    assert hurt(CHAIN, {"c": Finding(result=Result.UNREADABLE, ranges=[A])}) == {"c": [A]}
