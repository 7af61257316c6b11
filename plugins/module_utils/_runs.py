# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sets of clusters as runs: pure functions over sorted lists. For internal use of livebackup.qemu only.

A run is the number of its first cluster and how many follow each other. In a list they ascend and do not
overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

Run = tuple[int, int]


def joined(runs: Iterable[Run]) -> list[Run]:
    """The same clusters from runs in any order that may touch or overlap."""
    found: list[Run] = []
    for first, count in sorted(runs):
        if found and first <= sum(found[-1]):
            start, before = found[-1]
            found[-1] = (start, max(before, first + count - start))
        elif count:
            found.append((first, count))
    return found


def common(these: list[Run], those: list[Run]) -> list[Run]:
    """The clusters that are in both."""
    found: list[Run] = []
    left, right = iter(these), iter(those)
    one, other = next(left, None), next(right, None)
    while one and other:
        start, end = max(one[0], other[0]), min(sum(one), sum(other))
        if start < end:
            found.append((start, end - start))
        if sum(one) < sum(other):
            one = next(left, None)
        else:
            other = next(right, None)
    return found


def without(these: list[Run], those: list[Run]) -> list[Run]:
    """The clusters of the first that are not in the second."""
    if not these:
        return []
    return common(these, _between(those, max(map(sum, these))))


def _between(runs: list[Run], end: int) -> list[Run]:
    """What is not in the runs, up to the cluster ``end``."""
    found: list[Run] = []
    at = 0
    for first, count in [*runs, (end, 0)]:
        if first > at:
            found.append((at, first - at))
        at = max(at, first + count)
    return found


def count_of(runs: Iterable[Run]) -> int:
    """How many clusters they are."""
    return sum(count for dummy, count in runs)


def pieces(runs: Iterable[Run], most: int) -> Iterator[Run]:
    """The same clusters in runs of at most ``most``."""
    for first, count in runs:
        for start in range(first, first + count, most):
            yield start, min(most, first + count - start)
