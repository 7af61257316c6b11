# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which clusters a layer's own tables hold, beside those that its digest table lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from livebackup_receiver.chain.fold import held
from livebackup_receiver.chain.image import TABLES_AT_ONCE, Image, Slots
from livebackup_receiver.store.digests import DIGEST_BYTES, Digests, Table
from livebackup_receiver.store.ranges import ClusterNumbers

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Mismatch:
    """Clusters that the layer holds and its digest table does not list, and the other way round."""

    unlisted: ClusterNumbers
    unheld: ClusterNumbers

    def __bool__(self) -> bool:
        return bool(len(self.unlisted) or len(self.unheld))


def mismatch(image: Image, table: Table) -> Mismatch:
    """Compare what a layer holds with what is listed.

    :raise LayerDamaged: an L2 table cannot be read
    """
    unlisted: list[ClusterNumbers] = [np.zeros(0, np.uint64)]
    unheld: list[ClusterNumbers] = [np.zeros(0, np.uint64)]
    for slots in _slots(image, table):
        holds, lists = _held(image, slots), _listed(table, slots, image.entries)
        unlisted.append(np.setdiff1d(holds, lists, assume_unique=True))
        unheld.append(np.setdiff1d(lists, holds, assume_unique=True))
    return Mismatch(np.concatenate(unlisted), np.concatenate(unheld))


def masked_by_all(children: Sequence[Image], first: int, count: int) -> Mask:
    """Which clusters cannot be seen through any of the layers above; there is at least one.

    :raise LayerDamaged: an L2 table cannot be read
    """
    clusters = np.arange(first, first + count)
    masked = np.ones(count, bool)
    for child in children:
        slots = np.unique(clusters // child.entries)
        tables = child.l2(slots)
        own = np.zeros(count, bool)
        if tables is not None:
            own = held(tables).reshape(-1)[clusters - int(slots[0]) * child.entries]
        masked &= own | (clusters >= child.clusters)
    return masked


def digests_at(tables: Sequence[Table], clusters: ClusterNumbers) -> Digests:
    """The digests of some clusters of a disk; pure.

    :param tables: as ``read_chain`` gives them
    """
    found = np.zeros((len(clusters), DIGEST_BYTES), np.uint8)
    for table in tables:
        places = np.searchsorted(table.index, clusters)
        inside = np.flatnonzero(places < len(table.index))
        same = inside[table.index[places[inside]] == clusters[inside]]
        found[same] = table.digests[places[same]]
    return found


def _slots(image: Image, table: Table) -> Iterator[Slots]:
    """The L2 tables that matter, some at a time."""
    listed = np.unique(table.index // np.uint64(image.entries)).astype(np.int64)
    slots = np.union1d(image.slots(), listed)
    for start in range(0, len(slots), TABLES_AT_ONCE):
        yield slots[start : start + TABLES_AT_ONCE]


def _held(image: Image, slots: Slots) -> ClusterNumbers:
    tables = image.l2(slots)
    if tables is None:
        return np.zeros(0, np.uint64)
    rows, columns = np.nonzero(held(tables))
    numbers: ClusterNumbers = (slots[rows] * image.entries + columns).astype(np.uint64)
    return numbers


def _listed(table: Table, slots: Slots, entries: int) -> ClusterNumbers:
    parts = [np.zeros(0, np.uint64)]
    for slot in slots.tolist():
        start, end = np.searchsorted(table.index, [slot * entries, (slot + 1) * entries])
        parts.append(table.index[start:end].astype(np.uint64))
    return np.concatenate(parts)
