# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree of a VM's points, and how it is drawn."""

from __future__ import annotations

from sample_records import NOW

from livebackup_receiver.model import Level
from livebackup_receiver.tree import TreePoint, graph_text, rows_of, tree_of


def tree_point(point: str, parent: str | None = None) -> TreePoint:
    level = Level.INCREMENTAL if parent else Level.FULL
    return TreePoint(point=point, parent=parent, group="nightly", cut_at=NOW, level=level, dropped=False)


def points(*lies_on: str) -> list[TreePoint]:
    """Points from words such as ``"c-a"``: c lies on a."""
    pairs = [each.partition("-") for each in lies_on]
    return [tree_point(point, parent or None) for point, dummy, parent in pairs]


def drawn(*lies_on: str) -> list[str]:
    rows = rows_of(points(*lies_on))
    width = max(row.width for row in rows)
    return [f"{graph_text(row, width):{2 * width}}{row.point.point}" for row in rows]


def test_a_vm_that_was_never_restored_has_one_head() -> None:
    [tree] = tree_of("db", [("vd-a", points("c-b", "b-a", "a"))]).trees
    assert (tree.heads, tree.forks) == (["c"], [])


def test_a_vm_that_went_on_from_an_older_point_has_two() -> None:
    [tree] = tree_of("db", [("vd-a", points("d-a", "c-b", "b-a", "a"))]).trees
    assert (tree.heads, tree.forks) == (["d", "c"], ["a"])
    assert [each.point for each in tree.points if each.head] == ["d", "c"]


def test_what_a_full_backup_has_left_behind_is_no_head() -> None:
    [tree] = tree_of("db", [("vd-a", points("d-c", "c", "b-a", "a"))]).trees
    assert tree.heads == ["d"]


def test_a_branch_that_a_full_backup_has_left_behind_still_is_one() -> None:
    [tree] = tree_of("db", [("vd-a", points("e", "d-a", "c-b", "b-a", "a"))]).trees
    assert tree.heads == ["e", "d", "c"]


def test_disks_with_the_same_tree_share_it() -> None:
    straight, forked = points("c-b", "b-a", "a"), points("c-a", "b-a", "a")
    trees = tree_of("db", [("vd-a", straight), ("vd-b", forked), ("vd-c", straight)]).trees
    assert [each.disks for each in trees] == [["vd-a", "vd-c"], ["vd-b"]]


def test_a_line_is_drawn_straight() -> None:
    assert drawn("c-b", "b-a", "a") == ["● c", "● b", "● a"]


def test_two_heads_are_drawn_side_by_side() -> None:
    assert drawn("d-a", "c-b", "b-a", "a") == ["●   d", "│ ● c", "│ ● b", "●─┘ a"]


def test_a_branch_crosses_the_one_that_passes() -> None:
    assert drawn("f-b", "e-a", "d-b", "c-b", "b-a", "a") == [
        "●       f",
        "│ ●     e",
        "│ │ ●   d",
        "│ │ │ ● c",
        "●─┼─┴─┘ b",
        "●─┘     a",
    ]


def test_a_new_chain_takes_the_place_of_one_that_began_there() -> None:
    assert drawn("d-c", "c", "b-a", "a") == ["● d", "● c", "● b", "● a"]
