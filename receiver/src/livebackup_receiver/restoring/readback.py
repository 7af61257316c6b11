# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing a file that was read back with the digests of its point.

What is hashed already is looked up by where the file's own tables say that each cluster lies. What differs,
and what cannot be looked up, is read again, cluster by cluster; only that decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from livebackup_receiver import convert
from livebackup_receiver.chain.copying import Pace
from livebackup_receiver.chain.fold import Entries
from livebackup_receiver.chain.image import OFFSET, Image, Slots, open_image
from livebackup_receiver.convert import Format
from livebackup_receiver.restoring.follower import Follower
from livebackup_receiver.store.digests import DIGEST_BYTES, Digests, Table, compose
from livebackup_receiver.store.qcow2 import CLUSTER_BYTES
from livebackup_receiver.store.ranges import ClusterNumbers, Range, ranges_of

# 2 GiB of the disk, a megabyte of digests
CLUSTERS_AT_ONCE = 32768

Found = Callable[[int, int], tuple[Digests, ClusterNumbers]]
"""The digests of so many clusters from the first on, and those of which none is known."""


def damage_read_back(
    follower: Follower, written: Path, format: Format, tables: Sequence[Table], *, pace: Pace
) -> list[Range]:
    """Where a file is not what the digests say, end to end.

    :param follower: which has finished
    :param pace: may raise to give way
    :raise LayerDamaged: it is no image at all
    """
    suspects = _suspects(follower, written, format, tables, pace)
    if not len(suspects):
        return []
    ranges = ranges_of(suspects, tables[-1].virtual_size)
    return convert.damage_in(written, format, tables, pace=pace, only=ranges)


def _suspects(
    follower: Follower, written: Path, format: Format, tables: Sequence[Table], pace: Pace
) -> ClusterNumbers:
    if format is Format.RAW:
        return _differing(tables, lambda first, count: _of_raw(follower, first, count), pace)
    with open_image(written) as image:
        if image.cluster_bytes != CLUSTER_BYTES:
            return np.arange(tables[-1].clusters, dtype=np.uint64)
        return _differing(tables, lambda first, count: _of_image(follower, image, first, count), pace)


def _differing(tables: Sequence[Table], found: Found, pace: Pace) -> ClusterNumbers:
    return np.concatenate(list(_windows(tables, found, pace)) or [np.zeros(0, np.uint64)])


def _windows(tables: Sequence[Table], found: Found, pace: Pace) -> Iterator[ClusterNumbers]:
    clusters = tables[-1].clusters
    for first in range(0, clusters, CLUSTERS_AT_ONCE):
        pace(0)
        count = min(CLUSTERS_AT_ONCE, clusters - first)
        digests, unknown = found(first, count)
        differ = (digests != compose(tables, first, count)).any(axis=1)
        differ[unknown] = True
        yield np.flatnonzero(differ).astype(np.uint64) + np.uint64(first)


def _of_raw(follower: Follower, first: int, count: int) -> tuple[Digests, ClusterNumbers]:
    return follower.rows(np.arange(first, first + count) * CLUSTER_BYTES), np.zeros(0, np.uint64)


def _of_image(follower: Follower, image: Image, first: int, count: int) -> tuple[Digests, ClusterNumbers]:
    digests = np.zeros((count, DIGEST_BYTES), np.uint8)
    slots: Slots = np.arange(first // image.entries, -(-(first + count) // image.entries))
    tables = image.l2(slots)
    if tables is None:
        return digests, np.zeros(0, np.uint64)
    entries = tables.reshape(-1)[:count]
    held = Entries(np.arange(count), entries, np.zeros(count, np.uint16))
    data = held.data
    digests[data] = follower.rows((entries[data] & OFFSET).astype(np.int64))
    return digests, np.flatnonzero(held.compressed).astype(np.uint64)
