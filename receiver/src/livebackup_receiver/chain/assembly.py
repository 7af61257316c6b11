# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts folded layers into one file: data in the order of its source, then tables.

In the order of the source, extents stay as long as they were, so that sharing them takes few calls; the
order of the disk would cut them into single clusters.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import FileIO
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from livebackup_receiver.chain import layout
from livebackup_receiver.chain.copying import BLOCK, Copier
from livebackup_receiver.chain.extents import Extent, recode
from livebackup_receiver.chain.fold import Entries, Folded
from livebackup_receiver.chain.image import (
    COMPRESSED,
    COPIED,
    OFFSET,
    TABLES_AT_ONCE,
    ZERO,
    Image,
    Numbers,
    Slots,
)
from livebackup_receiver.chain.keyring import cipher_of
from livebackup_receiver.chain.preamble import Span
from livebackup_receiver.chain.xts import SECTOR, Xts
from livebackup_receiver.errors import LayerUnsupported

# 128 GiB of data; some 100 MB of memory
CLUSTERS_AT_ONCE = 2 << 20


@dataclass
class Assembly:
    """A file that is being made of layers.

    :param layers: bottom first
    :param file: written from ``place`` on
    :param backing: the name of the parent's file, if it has one
    :param keep: the layer that ``file`` itself is, whose clusters stay where they are
    :param luks: where the LUKS header of the file lies, if it is encrypted, and the ``cipher`` that is its
    """

    layers: Sequence[Image]
    file: FileIO
    copier: Copier
    backing: str | None
    place: int
    keep: int | None = None
    luks: Span | None = None
    cipher: Xts | None = None
    l1: Numbers = field(init=False)
    references: layout.References = field(init=False)
    compression: int | None = None
    _gathered: list[Entries] = field(default_factory=list)
    _slots: list[Slots] = field(default_factory=list)
    _count: int = 0

    def __post_init__(self) -> None:
        top = self.layers[-1]
        self.l1 = np.zeros(top.tables, np.uint64)
        self.references = layout.References(top.cluster_bits)
        if self.luks:
            self.references.add_span(*self.luks)

    @property
    def _step(self) -> int:
        return self.layers[-1].cluster_bytes

    def add(self, folded: Folded) -> None:
        """Take in some tables; what they hold is in the file at the latest when it is finished.

        :raise LayerUnsupported: something that cannot be put together without decoding it
        """
        held = folded.held
        self._gathered.append(held)
        self._slots.append(folded.slots)
        self._count += len(held.index)
        if self._count >= CLUSTERS_AT_ONCE:
            self._put()

    def _put(self) -> None:
        """Put the gathered clusters, then their tables, into the file."""
        if not self._gathered:
            return
        gathered, slots = Entries.together(self._gathered), np.concatenate(self._slots)
        self._gathered, self._slots, self._count = [], [], 0
        placed = self._place(gathered)
        for start in range(0, len(slots), TABLES_AT_ONCE):
            some = slots[start : start + TABLES_AT_ONCE]
            self._add_tables(some, self._tables(some, gathered.index, placed))

    def _place(self, gathered: Entries) -> Numbers:
        """Bring clusters to their places; their new entries."""
        entries = np.zeros(len(gathered.entries), np.uint64)
        if self.backing:
            entries[gathered.zero] = ZERO
        moves = gathered.data
        if self.keep is not None:
            stays = moves & (gathered.source == self.keep)
            entries[stays] = gathered.entries[stays] & OFFSET | COPIED
            self.references.add(entries[stays] & OFFSET)
            moves &= ~stays
        entries[moves] = self._place_data(gathered.only(moves))
        if (compressed := gathered.compressed).any():
            entries[compressed] = self._place_compressed(gathered.only(compressed))
        self._clear_past_ends(gathered, entries)
        return entries

    def _tables(self, slots: Slots, index: NDArray[np.int64], entries: Numbers) -> Numbers:
        per_table = self.layers[-1].entries
        tables = np.zeros((len(slots), per_table), np.uint64)
        start, end = np.searchsorted(index, [slots[0] * per_table, (slots[-1] + 1) * per_table])
        numbers = index[start:end]
        tables[np.searchsorted(slots, numbers // per_table), numbers % per_table] = entries[start:end]
        return tables

    def finish(self) -> layout.Plan:
        """Write the L1 table and the reference counts; what the header must say, when all is on the disk."""
        self._put()
        top = self.layers[-1]
        kind = self.compression or 0
        plan = layout.Plan(top.virtual_size, top.cluster_bits, self.backing, kind, self.luks)
        l1_offset = self.place
        self.place += max(1, -(-self.l1.nbytes // self._step)) * self._step
        tail = layout.tail(plan, self.l1, self.references, l1_offset=l1_offset, place=self.place)
        for piece in tail.pieces:
            self.copier.write(self.file.fileno(), piece.content, piece.place)
        # Never shorter: what was there, and is not pointed at any more, may still be read by somebody.
        os.truncate(self.file.fileno(), max(tail.end, os.fstat(self.file.fileno()).st_size))
        return tail.plan

    def _place_data(self, clusters: Entries) -> Numbers:
        host, source = clusters.entries & OFFSET, clusters.source
        order = np.lexsort((host, source))
        host, source = host[order], source[order]
        for start, end in _runs(host, source, self._step):
            layer = self.layers[int(source[start])]
            place, length = self.place + start * self._step, (end - start) * self._step
            self._bring(layer, int(host[start]), place, length)
        places = np.empty(len(host), np.uint64)
        places[order] = np.uint64(self.place) + np.arange(len(host), dtype=np.uint64) * np.uint64(self._step)
        self.references.add(places)
        self.place += len(host) * self._step
        return places | COPIED

    def _place_compressed(self, clusters: Entries) -> Numbers:
        """Compressed clusters go byte for byte, in pieces that begin and end at blocks."""
        placed = np.empty(len(clusters.entries), np.uint64)
        for number in np.unique(clusters.source).tolist():
            mine = np.flatnonzero(clusters.source == number)
            self._require_compression(self.layers[number])
            placed[mine] = self._place_extents(self.layers[number], clusters.entries[mine])
        self.place = -(-self.place // self._step) * self._step
        return placed

    def _place_extents(self, layer: Image, entries: Numbers) -> Numbers:
        start, end = layer.compressed_extents(entries)
        block = np.uint64(BLOCK)
        first, last = start // block * block, (end + block - np.uint64(1)) // block * block
        order = np.argsort(first, kind="stable")
        # the furthest end so far: extents may lie within each other's blocks
        reach = np.maximum.accumulate(last[order])
        begins = np.concatenate(([0], np.flatnonzero(first[order][1:] > reach[:-1]) + 1))
        run = np.zeros(len(order), np.int64)
        run[begins[1:]] = 1
        run = np.cumsum(run)
        lengths = reach[np.append(begins[1:], len(order)) - 1] - first[order][begins]
        places = np.uint64(self.place) + np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.uint64)
        for offset, place, length in zip(
            first[order][begins].tolist(), places.tolist(), lengths.tolist(), strict=True
        ):
            self._copy(layer, offset, place, min(length, layer.size - offset))
        self.place += int(lengths.sum())
        moved = np.empty(len(entries), np.uint64)
        moved[order] = start[order] - first[order][begins][run] + places[run]
        self.references.add_extents(moved, moved + (end - start))
        shift = np.uint64(62 - (layer.cluster_bits - 8))
        return entries & ~((np.uint64(1) << shift) - np.uint64(1)) | moved

    def _require_compression(self, layer: Image) -> None:
        if self.compression not in (None, layer.compression):
            raise LayerUnsupported(str(layer.path), "its clusters are compressed in another way")
        self.compression = layer.compression

    def _clear_past_ends(self, gathered: Entries, entries: Numbers) -> None:
        """The last cluster of a layer that is shorter than the disk is zeros past that layer's end."""
        for number, layer in enumerate(self.layers[:-1]):
            valid = layer.virtual_size % layer.cluster_bytes
            if not valid or layer.virtual_size >= self.layers[-1].virtual_size:
                continue
            at = np.flatnonzero((gathered.index == layer.clusters - 1) & (gathered.source == number))
            for entry in entries[at].tolist():
                if entry & int(COMPRESSED):
                    raise LayerUnsupported(str(layer.path), "its last cluster is compressed and cut short")
                if self.cipher and valid % SECTOR:
                    raise LayerUnsupported(
                        str(layer.path), "it ends within a sector, which is encrypted whole"
                    )
                if entry & int(OFFSET):
                    self._clear((entry & int(OFFSET)) + valid, layer.cluster_bytes - valid)

    def _add_tables(self, slots: Slots, tables: Numbers) -> None:
        used = tables.any(axis=1)
        old = self.layers[self.keep].l2(slots) if self.keep is not None else None
        if old is not None and self.keep is not None:
            same = used & (tables == old).all(axis=1)
            self.l1[slots[same]] = self.layers[self.keep].l1[slots[same]]
            used &= ~same
        rows = np.flatnonzero(used)
        steps = np.arange(len(rows), dtype=np.uint64) * np.uint64(self._step)
        self.l1[slots[rows]] = np.uint64(self.place) + steps
        for piece in layout.table_pieces(tables[rows], self.place):
            self.copier.write(self.file.fileno(), piece.content, piece.place)
        self.place += len(rows) * self._step

    def _clear(self, place: int, length: int) -> None:
        zeros = bytes(length)
        content = self.cipher.encrypt(zeros, place // SECTOR) if self.cipher else zeros
        self.copier.write(self.file.fileno(), content, place)

    def _bring(self, layer: Image, offset: int, place: int, length: int) -> None:
        """Bring plain clusters to their place; the numbers of sectors are part of how they are encrypted."""
        cipher = cipher_of(layer)
        if cipher is None and self.cipher is None:
            self._copy(layer, offset, place, min(length, layer.size - offset))
        else:
            source = Extent(0, length, layer.descriptor, offset, cipher)
            recode(source, self.file.fileno(), place, self.cipher, self.copier)

    def _copy(self, layer: Image, offset: int, place: int, length: int) -> None:
        self.copier.copy(layer.descriptor, offset, self.file.fileno(), place, length)


def _runs(host: Numbers, source: NDArray[np.uint16], step: int) -> Iterator[tuple[int, int]]:
    """Where runs of clusters that follow each other in one layer begin and end."""
    if not len(host):
        return
    apart = (np.diff(host) != np.uint64(step)) | (source[1:] != source[:-1])
    edges = [0, *(np.flatnonzero(apart) + 1).tolist(), len(host)]
    yield from pairwise(edges)
