# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of a disk: as clusters for computing, as ranges of bytes for people and for the catalog; pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from livebackup_receiver.store.qcow2 import CLUSTER_BYTES

Range = tuple[int, int]
"""Offset and length on the disk, in bytes."""

ClusterNumbers = NDArray[np.uint64]
"""Numbers of clusters of 64 KiB, ascending, each once."""

NAMED = 5
# What a catalog row may hold; a disk with more damage than that is said to be damaged in between, too.
MAX_RANGES = 1000


def clusters_of(ranges: Sequence[Range]) -> ClusterNumbers:
    """The clusters that any of the ranges touches."""
    parts = [np.arange(0, dtype=np.uint64)]
    for offset, length in ranges:
        parts.append(
            np.arange(offset // CLUSTER_BYTES, -(-(offset + length) // CLUSTER_BYTES), dtype=np.uint64)
        )
    return np.unique(np.concatenate(parts))


def ranges_of(clusters: ClusterNumbers, virtual_size: int) -> list[Range]:
    """The bytes of clusters, neighbours as one range, up to the end of the disk."""
    runs = np.split(clusters, np.flatnonzero(np.diff(clusters) != 1) + 1)
    found = [(int(run[0]) * CLUSTER_BYTES, len(run) * CLUSTER_BYTES) for run in runs if len(run)]
    return [(offset, min(length, virtual_size - offset)) for offset, length in found if offset < virtual_size]


def coarsened(ranges: Sequence[Range], limit: int = MAX_RANGES) -> list[Range]:
    """The same, or somewhat more, in at most so many ranges: the smallest gaps are filled."""
    if len(ranges) <= limit:
        return list(ranges)
    ends = np.array([offset + length for offset, length in ranges])
    starts = np.array([offset for offset, dummy in ranges])
    gaps = starts[1:] - ends[:-1]
    kept = np.sort(np.argsort(gaps)[len(gaps) - limit + 1 :]) + 1
    first = [0, *kept.tolist()]
    last = [*(kept - 1).tolist(), len(ranges) - 1]
    return [(int(starts[a]), int(ends[b] - starts[a])) for a, b in zip(first, last, strict=True)]


def words(ranges: Sequence[Range]) -> str:
    """The first of some ranges, for people: ``0 to 65536, 131072 to 196608 and 3 more ranges``."""
    named = ", ".join(f"{offset} to {offset + length}" for offset, length in ranges[:NAMED])
    more = f" and {len(ranges) - NAMED} more ranges" if len(ranges) > NAMED else ""
    return named + more
