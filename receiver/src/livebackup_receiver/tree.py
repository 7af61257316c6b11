# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The points of a VM's disks as a tree; pure.

A VM that was restored to an older point goes on from there, so two points lie on that one, and the tree has
two heads. Other disks of the VM usually have the same tree, and are shown in the same one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from livebackup_receiver.model import Level, Model, Moment

LINE, POINT, CROSS, ACROSS, JOIN, TEE = "│", "●", "┼", "─", "┘", "┴"


class TreePoint(Model):
    """A point of a disk; ``parent`` is the one whose layer its own lies on.

    ``dropped``: retention keeps it no longer, and its layer is there for those above it. ``head``: a VM may
    go on from it, because nothing lies on it yet; the last point before a full backup is none.
    """

    point: str
    parent: str | None
    group: str
    cut_at: Moment
    level: Level
    dropped: bool
    head: bool = False


class DiskTree(Model):
    """Disks with the same tree, its points newest first.

    ``forks`` are the points that several others lie on.
    """

    disks: list[str]
    points: list[TreePoint]
    heads: list[str]
    forks: list[str]


class VmTree(Model):
    vm: str
    trees: list[DiskTree]


@dataclass(frozen=True)
class Row:
    """How one point of a tree is drawn, as in ``git log --graph``: lanes are numbered from the left.

    :param lane: its own
    :param passing: the lanes of other branches, which go on
    :param joining: the lanes of branches that begin at this point; their children are further up
    :param rises: whether a child lies on it in its own lane
    :param goes_on: whether it has a parent
    """

    point: TreePoint
    lane: int
    passing: tuple[int, ...]
    joining: tuple[int, ...]
    rises: bool
    goes_on: bool

    @property
    def width(self) -> int:
        return max((self.lane, *self.passing, *self.joining)) + 1


def tree_of(vm: str, disks: Iterable[tuple[str, Sequence[TreePoint]]]) -> VmTree:
    """The trees of a VM.

    :param disks: each with its points, newest first; ``head`` is not looked at
    """
    found: list[DiskTree] = []
    for disk, points in disks:
        tree = _tree(disk, points)
        same = next((each for each in found if each.points == tree.points), None)
        if same is not None:
            same.disks.append(disk)
        else:
            found.append(tree)
    return VmTree(vm=vm, trees=found)


def rows_of(points: Sequence[TreePoint]) -> list[Row]:
    """How the points of a tree are drawn, newest first."""
    waiting: list[str | None] = []
    rows = []
    for point in points:
        mine = [lane for lane, parent in enumerate(waiting) if parent == point.point]
        lane = mine[0] if mine else _free(waiting)
        for each in mine:
            waiting[each] = None
        passing = tuple(each for each, parent in enumerate(waiting) if parent is not None)
        waiting[lane] = point.parent
        rows.append(Row(point, lane, passing, tuple(mine[1:]), bool(mine), point.parent is not None))
    return rows


def graph_text(row: Row, width: int) -> str:
    """A row of the graph for a terminal.

    :param width: in lanes
    """
    return "".join(_cell(row, lane) for lane in range(width)).rstrip()


def _cell(row: Row, lane: int) -> str:
    end = max(row.joining, default=row.lane)
    after = ACROSS if row.lane <= lane < end else " "
    if lane == row.lane:
        return POINT + after
    if lane in row.joining:
        return (JOIN if lane == end else TEE) + after
    if lane in row.passing:
        return (CROSS if row.lane < lane < end else LINE) + after
    return (ACROSS if row.lane < lane < end else " ") + after


def _free(waiting: list[str | None]) -> int:
    if None in waiting:
        return waiting.index(None)
    waiting.append(None)
    return len(waiting) - 1


def _tree(disk: str, points: Sequence[TreePoint]) -> DiskTree:
    children = Counter(each.parent for each in points)
    forks = [each.point for each in points if children[each.point] > 1]
    roots = _roots(points)
    # What a full backup has left behind is of interest only if it was gone on from twice.
    alive = {roots[each] for each in (points[0].point, *forks)}
    heads = [each.point for each in points if not children[each.point] and roots[each.point] in alive]
    marked = [each.model_copy(update={"head": each.point in heads}) for each in points]
    return DiskTree(disks=[disk], points=marked, heads=heads, forks=forks)


def _roots(points: Sequence[TreePoint]) -> dict[str, str]:
    """The full backup below each point."""
    roots: dict[str, str] = {}
    for each in reversed(points):
        roots[each.point] = roots.get(each.parent, each.point) if each.parent else each.point
    return roots
