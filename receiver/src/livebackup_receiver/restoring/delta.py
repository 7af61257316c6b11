# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An older copy of a disk: what of it is the same at the point, by its digests, is taken from it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from livebackup_receiver.chain import flat
from livebackup_receiver.chain.copying import Pace
from livebackup_receiver.chain.extents import AnyExtent, Extent, parts_of
from livebackup_receiver.chain.fold import Entries, Folded, Mask, folds
from livebackup_receiver.chain.image import OFFSET, Image, Slots, open_image
from livebackup_receiver.convert import Format
from livebackup_receiver.errors import BasisUnusable, LayerDamaged, LayerUnsupported
from livebackup_receiver.store.digests import DIGEST_BYTES, Table, compose, digests_of_places
from livebackup_receiver.store.qcow2 import CLUSTER_BITS, CLUSTER_BYTES, MAGIC

# 64 MiB between two looks at whether to go on
CLUSTERS_AT_ONCE = 1024


@dataclass
class Basis:
    """An open older copy; make it with ``open_basis``. Belongs to one thread.

    :param image: None: it is a raw one
    :param tables: of the chain that is restored, as ``read_chain`` gives them
    :param pace: told the bytes before they are compared; may raise to give way
    :param taken_bytes: are the same in the copy
    :param moved_bytes: must come from the store
    """

    descriptor: int
    image: Image | None
    virtual_size: int
    tables: Sequence[Table]
    pace: Pace
    taken_bytes: int = 0
    moved_bytes: int = 0

    def folds(self, layers: Sequence[Image]) -> Iterator[Folded]:
        """The tables of a chain over the copy, which is number 0 in them, and the layers come after it.

        :param layers: bottom first
        """
        for folded in folds(layers):
            yield self._over_copy(folded)

    def _over_copy(self, folded: Folded) -> Folded:
        held = folded.every
        holds = held.data | held.compressed
        entries, source = folded.entries.copy(), folded.source + np.uint16(1)
        tables = self.image.l2(folded.slots) if self.image else None
        same = np.zeros(0, np.int64)
        if tables is not None:
            copy = Entries(held.index, tables.reshape(-1), source)
            both = np.flatnonzero(holds & copy.data)
            same = both[self._same(held.index[both], (copy.entries[both] & OFFSET).astype(np.int64))]
            entries[same], source[same] = copy.entries[same], 0
        self._count(int(holds.sum()), len(same))
        return Folded(folded.slots, folded.entries_per_table, entries, source)

    def extents(self, layers: Sequence[Image]) -> Iterator[AnyExtent]:
        """The extents of a chain, those from the raw copy that are the same there.

        :param layers: bottom first
        """
        for extent in flat.extents(layers):
            first, count = extent.offset // CLUSTER_BYTES, -(-extent.length // CLUSTER_BYTES)
            index = np.arange(first, first + count)
            same = self._same(index, index * CLUSTER_BYTES)
            self._count(count, int(same.sum()))
            for taken, part in parts_of(extent, same):
                yield Extent(part.offset, part.length, self.descriptor, part.offset) if taken else part

    def _same(self, index: Slots, places: Slots) -> Mask:
        """Which clusters of the copy, by their numbers and places in it, have the digests of the point."""
        same = np.zeros(len(index), bool)
        for start in range(0, len(index), CLUSTERS_AT_ONCE):
            some = slice(start, start + CLUSTERS_AT_ONCE)
            self.pace(len(index[some]) * CLUSTER_BYTES)
            numbers, first = index[some], int(index[start])
            found = digests_of_places(self.descriptor, self.virtual_size, numbers, places[some])
            wanted = compose(self.tables, first, int(numbers[-1]) - first + 1)[numbers - first]
            same[some] = (np.frombuffer(found, np.uint8).reshape(-1, DIGEST_BYTES) == wanted).all(axis=1)
        return same

    def _count(self, every: int, same: int) -> None:
        self.taken_bytes += same * CLUSTER_BYTES
        self.moved_bytes += (every - same) * CLUSTER_BYTES


@contextmanager
def open_basis(path: Path, format: Format, tables: Sequence[Table], *, pace: Pace) -> Iterator[Basis]:
    """Open an older copy.

    :raise BasisUnusable: it is of another size or format, or not all of a disk
    """
    size = tables[-1].virtual_size
    if format is Format.QCOW2:
        try:
            with open_image(path) as image:
                _require_whole(path, image, size)
                yield Basis(image.descriptor, image, size, tables, pace)
                return
        except (LayerDamaged, LayerUnsupported) as error:
            if error.path != str(path):
                raise
            raise BasisUnusable(str(path), f"as a qcow2 image, {error.problem}") from None
    with path.open("rb") as file:
        if os.pread(file.fileno(), len(MAGIC), 0) == MAGIC:
            raise BasisUnusable(str(path), "it is a qcow2 image, and a raw one is to be written")
        _require_size(path, os.fstat(file.fileno()).st_size, size)
        yield Basis(file.fileno(), None, size, tables, pace)


def _require_whole(path: Path, image: Image, size: int) -> None:
    _require_size(path, image.virtual_size, size)
    for wrong, problem in (
        (image.backing is not None, f"it lies on {image.backing}"),
        (image.luks is not None, "it is encrypted"),
        (image.cluster_bits != CLUSTER_BITS, "its clusters are not of 64 KiB"),
    ):
        if wrong:
            raise BasisUnusable(str(path), problem)


def _require_size(path: Path, found: int, size: int) -> None:
    if found != size:
        raise BasisUnusable(str(path), f"its disk has {found:,} bytes, and the point's {size:,}")
