# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do with the layers of one disk; pure.

A layer whose point is dropped is called a ghost while kept points still need its clusters. Where the file
system shares extents, ghosts are merged into the layer above them at once, because that moves nothing.
Elsewhere they stay, without the clusters that are masked, until the chain is too long; then the cheapest
are merged, by adding the upper layer to the ghost's own file, which moves the upper layer's data and no
more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise, takewhile
from typing import Literal


@dataclass(frozen=True)
class LayerFacts:
    """A layer of one disk; ``stored_bytes`` is the room that it takes."""

    point: str
    parent: str | None
    dropped: bool
    stored_bytes: int


@dataclass(frozen=True)
class Abilities:
    """What the store's file system can do: share extents between files, make holes into them."""

    shares: bool
    punches: bool


@dataclass(frozen=True)
class Remove:
    """Nothing lies on this ghost any more."""

    point: str


@dataclass(frozen=True)
class Merge:
    """Layers become one, under the name of the uppermost.

    :param points: bottom first
    :param parent: below the lowest of them
    :param into: a new file, or the lowest one's own
    :param removes: those of ``points`` that nobody needs then
    """

    points: tuple[str, ...]
    parent: str | None
    into: Literal["new", "lowest"]
    removes: tuple[str, ...]

    @property
    def top(self) -> str:
        return self.points[-1]


@dataclass(frozen=True)
class Punch:
    """What all children of a ghost mask is freed."""

    point: str
    children: tuple[str, ...]


Action = Remove | Merge | Punch


def next_actions(
    layers: Sequence[LayerFacts], abilities: Abilities, *, max_depth: int, punched: Collection[Punch] = ()
) -> list[Action]:
    """What can be done now; when it is done, ask again.

    :param layers: every layer of the disk
    :param max_depth: how many layers a chain may have
    :param punched: what was done already, and needs not be done again
    """
    known = {each.point: each for each in layers}
    children = _children(layers)
    removals: list[Action] = [
        Remove(each.point) for each in layers if each.dropped and not children[each.point]
    ]
    if removals:
        return removals
    if abilities.shares:
        merges = _shared_merges(known, children)
        return [merges[0]] if merges else _shortening(known, children, max_depth)
    punches: list[Action] = [
        punch
        for punch in (Punch(each.point, children[each.point]) for each in layers if each.dropped)
        if abilities.punches and punch not in punched
    ]
    return punches or _cheapest_merge(known, children, max_depth)


def depth_of(layers: Sequence[LayerFacts]) -> int:
    """How many layers the longest chain has."""
    known = {each.point: each for each in layers}
    tips = {each.point for each in layers} - {each.parent for each in layers}
    return max((len(list(_chain(known, tip))) for tip in tips), default=0)


def after(layers: Sequence[LayerFacts], action: Action) -> list[LayerFacts]:
    """The layers as an action leaves them; of sizes only the upper bound is known."""
    if isinstance(action, Punch):
        return list(layers)
    if isinstance(action, Remove):
        return [each for each in layers if each.point != action.point]
    stored = sum(each.stored_bytes for each in layers if each.point in action.points)
    return [
        replace(each, parent=action.parent, stored_bytes=stored) if each.point == action.top else each
        for each in layers
        if each.point not in action.removes
    ]


def _children(layers: Sequence[LayerFacts]) -> Mapping[str, tuple[str, ...]]:
    children: dict[str, tuple[str, ...]] = {each.point: () for each in layers}
    for each in layers:
        if each.parent in children:
            children[each.parent] += (each.point,)
    return children


def _chain(known: Mapping[str, LayerFacts], point: str) -> Iterator[str]:
    """A layer and those below it, top first; ends where one is missing, or seen before."""
    seen: set[str] = set()
    wanted: str | None = point
    while wanted is not None and wanted in known and wanted not in seen:
        yield wanted
        seen.add(wanted)
        wanted = known[wanted].parent


def _shared_merges(known: Mapping[str, LayerFacts], children: Mapping[str, tuple[str, ...]]) -> list[Action]:
    """Each kept layer with the ghosts right below it, all at once."""
    merges: list[Action] = []
    for top in (each for each in known.values() if not each.dropped):
        below = islice(_chain(known, top.point), 1, None)
        run = [top.point, *takewhile(lambda point: known[point].dropped, below)]
        if len(run) > 1:
            merges.append(_merge(tuple(run[::-1]), known, children, into="new"))
    return merges


def _merge(
    points: tuple[str, ...],
    known: Mapping[str, LayerFacts],
    children: Mapping[str, tuple[str, ...]],
    *,
    into: Literal["new", "lowest"],
) -> Merge:
    """A merge, after which only those ghosts go that no other branch lies on."""
    removes: tuple[str, ...] = ()
    for lower, upper in zip(points[-2::-1], points[:0:-1], strict=True):
        others = set(children[lower]) - {upper}
        if others or (upper != points[-1] and upper not in removes):
            break
        removes = (lower, *removes)
    return Merge(points, known[points[0]].parent, into, removes)


def _shortening(
    known: Mapping[str, LayerFacts], children: Mapping[str, tuple[str, ...]], max_depth: int
) -> list[Action]:
    """A kept layer of a chain that is too long becomes a full one; sharing extents, that moves nothing."""
    for tip in (point for point in known if not children[point]):
        chain = list(_chain(known, tip))
        if len(chain) > max_depth:
            points = tuple(chain[max_depth // 2 :][::-1])
            return [Merge(points, None, "new", ())]
    return []


def _cheapest_merge(
    known: Mapping[str, LayerFacts], children: Mapping[str, tuple[str, ...]], max_depth: int
) -> list[Action]:
    """The ghost to which the least must be added, in a chain that is too long."""
    for tip in (point for point in known if not children[point]):
        chain = list(_chain(known, tip))
        if len(chain) <= max_depth:
            continue
        pairs = [
            (known[upper].stored_bytes, lower, upper)
            for upper, lower in pairwise(chain)
            if known[lower].dropped and children[lower] == (upper,)
        ]
        if pairs:
            dummy, lower, upper = min(pairs)
            return [_merge((lower, upper), known, children, into="lowest")]
    return []
