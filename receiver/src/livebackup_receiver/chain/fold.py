# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules by which layers lie over each other, on whole L2 tables at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from livebackup_receiver.chain.image import (
    COMPRESSED,
    HELD,
    OFFSET,
    TABLES_AT_ONCE,
    ZERO,
    Image,
    Numbers,
    Slots,
)

Mask = NDArray[np.bool_]
Sources = NDArray[np.uint16]


@dataclass(frozen=True)
class Entries:
    """L2 entries of several layers as one, in any selection; all arrays are of one length.

    :param index: the number of each cluster on the disk
    :param entries: what the uppermost layer that says something says of it
    :param source: the number of that layer; means nothing where the entry is empty
    """

    index: NDArray[np.int64]
    entries: Numbers
    source: Sources

    @property
    def compressed(self) -> Mask:
        mask: Mask = (self.entries & COMPRESSED) != 0
        return mask

    @property
    def zero(self) -> Mask:
        """Clusters that are zeros, whatever a parent holds."""
        mask: Mask = ~self.compressed & ((self.entries & ZERO) != 0)
        return mask

    @property
    def data(self) -> Mask:
        """Clusters that lie in a layer as they are."""
        mask: Mask = ~self.compressed & ((self.entries & ZERO) == 0) & ((self.entries & OFFSET) != 0)
        return mask

    @property
    def held(self) -> Mask:
        return held(self.entries)

    def only(self, chosen: Mask) -> Entries:
        """Some of them."""
        return Entries(self.index[chosen], self.entries[chosen], self.source[chosen])

    @staticmethod
    def together(parts: Sequence[Entries]) -> Entries:
        """Several selections one after another."""
        return Entries(
            np.concatenate([part.index for part in parts]),
            np.concatenate([part.entries for part in parts]),
            np.concatenate([part.source for part in parts]),
        )


@dataclass(frozen=True)
class Folded:
    """Whole L2 tables of several layers as one: the entries of each slot one after another."""

    slots: Slots
    entries_per_table: int
    entries: Numbers
    source: Sources

    @property
    def every(self) -> Entries:
        """All entries, the empty ones too."""
        within = np.arange(self.entries_per_table, dtype=np.int64)
        index = (self.slots[:, None] * self.entries_per_table + within).reshape(-1)
        return Entries(index, self.entries, self.source)

    @property
    def held(self) -> Entries:
        """The entries that say something."""
        at = np.flatnonzero(held(self.entries))
        # a power of two: shifting is several times as fast as dividing
        bits = self.entries_per_table.bit_length() - 1
        index = (self.slots[at >> bits] << bits) + (at & (self.entries_per_table - 1))
        return Entries(index, self.entries[at], self.source[at])


def held(entries: Numbers) -> Mask:
    """Whether each entry says something itself; of the others the layer below decides."""
    mask: Mask = (entries & HELD) != 0
    return mask


def fold(layers: Sequence[Image], slots: Slots) -> Folded | None:
    """Some L2 tables of a chain, or of a part of it.

    :param layers: bottom first, all with clusters of the same size
    :raise LayerDamaged: a table cannot be read
    """
    top = layers[-1]
    entries: Numbers | None = None
    source = np.zeros((len(slots), top.entries), np.uint16)
    for number in range(len(layers) - 1, -1, -1):
        tables = layers[number].l2(slots)
        if number < len(layers) - 1:
            tables = zero_past_end(layers[number], top, slots, tables)
        if tables is None:
            continue
        if entries is None:
            entries = tables
            source[:] = number
            continue
        open_ = ~held(entries)
        np.copyto(entries, tables, where=open_)
        source[open_] = number
    if entries is None:
        return None
    _cut_off(entries, slots, top)
    return Folded(slots, top.entries, entries.reshape(-1), source.reshape(-1))


def zero_past_end(layer: Image, top: Image, slots: Slots, tables: Numbers | None) -> Numbers | None:
    """A layer that is shorter than the disk reads as zeros past its end, whatever lies below it."""
    if layer.clusters >= top.clusters or (int(slots[-1]) + 1) * top.entries <= layer.clusters:
        return tables
    if tables is None:
        tables = np.zeros((len(slots), top.entries), np.uint64)
    for row in np.flatnonzero((slots + 1) * top.entries > layer.clusters).tolist():
        tables[row, max(0, layer.clusters - int(slots[row]) * top.entries) :] = ZERO
    return tables


def folds(layers: Sequence[Image]) -> Iterator[Folded]:
    """All L2 tables in which any of the layers holds something, ascending.

    :raise LayerDamaged: a table cannot be read
    """
    slots = _slots(layers)
    for start in range(0, len(slots), TABLES_AT_ONCE):
        folded = fold(layers, slots[start : start + TABLES_AT_ONCE])
        if folded is not None:
            yield folded


def _slots(layers: Sequence[Image]) -> Slots:
    top = layers[-1]
    present = np.zeros(top.tables, bool)
    for layer in layers:
        found = layer.slots()
        present[found[found < top.tables]] = True
        if layer.clusters < top.clusters and layers[0].backing:
            present[layer.clusters // top.entries :] = True
    return np.flatnonzero(present)


def _cut_off(entries: Numbers, slots: Slots, top: Image) -> None:
    """What lower layers hold past the end of the disk is not there any more."""
    past = top.clusters - int(slots[-1]) * top.entries
    if past < top.entries:
        entries[-1, past:] = 0
