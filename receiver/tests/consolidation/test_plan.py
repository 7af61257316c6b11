# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done with the layers of a disk; ``x`` stands for a dropped point."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from livebackup_receiver.consolidation.plan import (
    Abilities,
    LayerFacts,
    Merge,
    Punch,
    Remove,
    after,
    depth_of,
    next_actions,
)

SHARING = Abilities(shares=True, punches=True)
PUNCHING = Abilities(shares=False, punches=True)
NEITHER = Abilities(shares=False, punches=False)


def chain(text: str, sizes: Sequence[int] = ()) -> list[LayerFacts]:
    """``"a xb c"``: a full layer a, a dropped b on it, and c on that."""
    layers: list[LayerFacts] = []
    for number, word in enumerate(text.split()):
        parent = layers[-1].point if layers else None
        size = sizes[number] if sizes else 100
        layers.append(LayerFacts(word.removeprefix("x"), parent, word.startswith("x"), size))
    return layers


def actions(layers: list[LayerFacts], abilities: Abilities, max_depth: int = 50) -> list[object]:
    return list(next_actions(layers, abilities, max_depth=max_depth))


def test_kept_points_are_left_alone() -> None:
    for abilities in (SHARING, PUNCHING, NEITHER):
        assert actions(chain("a b c"), abilities) == []


def test_what_nothing_lies_on_is_removed() -> None:
    assert actions(chain("a b xc"), PUNCHING) == [Remove("c")]


def test_a_run_of_ghosts_is_merged_at_once_where_that_moves_nothing() -> None:
    assert actions(chain("a xb xc d e"), SHARING) == [Merge(("b", "c", "d"), "a", "new", ("b", "c"))]


def test_the_full_layer_moves_up() -> None:
    assert actions(chain("xa b"), SHARING) == [Merge(("a", "b"), None, "new", ("a",))]


def test_elsewhere_only_holes_are_made() -> None:
    assert actions(chain("a xb xc d"), PUNCHING) == [Punch("b", ("c",)), Punch("c", ("d",))]


def test_a_hole_is_made_once() -> None:
    done = {Punch("b", ("c",))}
    assert next_actions(chain("a xb c"), PUNCHING, max_depth=50, punched=done) == []


def test_without_holes_ghosts_stay_until_the_chain_is_too_long() -> None:
    assert actions(chain("a xb xc d"), NEITHER) == []
    assert len(actions(chain("a xb xc d"), NEITHER, max_depth=3)) == 1


def test_the_cheapest_ghost_is_merged_first() -> None:
    layers = chain("a xb c xd e", sizes=[100, 100, 70, 100, 20])
    assert actions(layers, NEITHER, max_depth=4) == [Merge(("d", "e"), "c", "lowest", ("d",))]


def test_a_ghost_that_two_branches_need_is_not_added_to() -> None:
    layers = [*chain("a xb c"), LayerFacts("d", "b", dropped=False, stored_bytes=1)]
    assert actions(layers, NEITHER, max_depth=2) == []
    assert actions(layers, PUNCHING) == [Punch("b", ("c", "d"))]


def test_each_branch_gets_its_own_copy_where_that_costs_nothing() -> None:
    layers = [*chain("a xb c"), LayerFacts("d", "b", dropped=False, stored_bytes=1)]
    assert actions(layers, SHARING) == [Merge(("b", "c"), "a", "new", ())]
    first = after(layers, Merge(("b", "c"), "a", "new", ()))
    assert actions(first, SHARING) == [Merge(("b", "d"), "a", "new", ("b",))]


def test_a_chain_of_kept_points_only_becomes_two() -> None:
    (shorter,) = next_actions(chain("a b c d e f g"), SHARING, max_depth=6)
    assert isinstance(shorter, Merge)
    assert (shorter.parent, shorter.removes) == (None, ())
    assert depth_of(after(chain("a b c d e f g"), shorter)) == 4


trees = st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(1, 100)), min_size=1, max_size=12)


@given(trees, st.sampled_from([SHARING, PUNCHING, NEITHER]), st.integers(2, 6))
def test_it_comes_to_an_end_and_no_kept_point_is_touched(
    tree: list[tuple[int, bool, int]], abilities: Abilities, max_depth: int
) -> None:
    layers: list[LayerFacts] = []
    for number, (back, dropped, size) in enumerate(tree):
        parent = layers[max(0, number - 1 - back)].point if number else None
        layers.append(LayerFacts(f"p{number:02}", parent, dropped, size))
    kept = {each.point for each in layers if not each.dropped}
    punched: set[Punch] = set()
    for dummy in range(100):
        found = next_actions(layers, abilities, max_depth=max_depth, punched=punched)
        if not found:
            break
        for action in found:
            punched |= {action} if isinstance(action, Punch) else set()
            layers = after(layers, action)
            assert kept <= {each.point for each in layers}
            known = {each.point for each in layers}
            assert all(each.parent is None or each.parent in known for each in layers)
    else:
        raise AssertionError("it does not come to an end")
    if abilities.shares:
        assert not any(each.dropped for each in layers)
