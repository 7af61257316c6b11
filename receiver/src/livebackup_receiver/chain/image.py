# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One qcow2 file by its own tables, whoever wrote it.

Nothing in the file is believed: sizes and offsets are compared with the file before anything is read by them,
so a hostile file ends in one error, in the time and memory that a file of its length deserves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from livebackup_receiver.chain.preamble import Span, preamble_of
from livebackup_receiver.errors import LayerDamaged
from livebackup_receiver.store.qcow2 import Header

COPIED = np.uint64(1 << 63)
COMPRESSED = np.uint64(1 << 62)
OFFSET = np.uint64(0x00FF_FFFF_FFFF_FE00)
ZERO = np.uint64(1)
HELD = COMPRESSED | OFFSET | ZERO
"""An entry with none of these bits leaves its cluster to the parent."""

ENTRY_BYTES = 8
TABLES_AT_ONCE = 64
# QEMU's own limit (QCOW_MAX_L1_SIZE).
MAX_L1_BYTES = 32 << 20


Numbers = NDArray[np.uint64]
Slots = NDArray[np.int64]


@dataclass(frozen=True)
class Image:
    """An open image; make it with ``open_image``. ``l1`` has offsets only, ``size`` is the file's.

    Of an encrypted one, ``luks`` is where its LUKS header lies; its tables are plain.
    """

    path: Path
    file: FileIO
    header: Header
    size: int
    backing: str | None
    backing_format: str | None
    compression: int
    has_bitmaps: bool
    luks: Span | None
    l1: Numbers

    @property
    def descriptor(self) -> int:
        return self.file.fileno()

    @property
    def virtual_size(self) -> int:
        return self.header.size

    @property
    def cluster_bits(self) -> int:
        return self.header.cluster_bits

    @property
    def cluster_bytes(self) -> int:
        return 1 << self.header.cluster_bits

    @property
    def entries(self) -> int:
        """How many entries an L2 table has."""
        return self.cluster_bytes // ENTRY_BYTES

    @property
    def clusters(self) -> int:
        """How many clusters the disk has, the last one perhaps in part."""
        return -(-self.virtual_size // self.cluster_bytes)

    @property
    def tables(self) -> int:
        """How many L2 tables the whole disk would need."""
        return -(-self.clusters // self.entries)

    def slots(self) -> Slots:
        """Which L2 tables there are."""
        return np.flatnonzero(self.l1[: self.tables])

    def batches(self, at_once: int = TABLES_AT_ONCE) -> Iterator[tuple[Slots, Numbers]]:
        """The L2 tables that there are, so many at a time, with their entries.

        :raise LayerDamaged: an entry points outside the file
        """
        slots = self.slots()
        for start in range(0, len(slots), at_once):
            some = slots[start : start + at_once]
            tables = self.l2(some)
            if tables is not None:
                yield some, tables

    def l2(self, slots: Slots) -> Numbers | None:
        """The entries of these L2 tables, a row for each; None if there is none of them.

        :raise LayerDamaged: an entry points outside the file
        """
        offsets = np.zeros(len(slots), np.uint64)
        inside = slots < len(self.l1)
        offsets[inside] = self.l1[slots[inside]]
        if not offsets.any():
            return None
        tables = self._read_tables(offsets)
        self._check(tables)
        return tables

    def compressed_extents(self, entries: Numbers) -> tuple[Numbers, Numbers]:
        """Where compressed clusters begin, and where their last sector ends; sectors are of 512 bytes."""
        shift = np.uint64(62 - (self.cluster_bits - 8))
        offset = entries & ((np.uint64(1) << shift) - np.uint64(1))
        sectors = (entries & ~COMPRESSED & ~COPIED) >> shift
        return offset, (offset & ~np.uint64(511)) + (sectors + np.uint64(1)) * np.uint64(512)

    def _read_tables(self, offsets: Numbers) -> Numbers:
        tables = np.zeros((len(offsets), self.entries), np.uint64)
        content = memoryview(tables).cast("B")  # type: ignore[arg-type]
        step = self.cluster_bytes
        present = np.flatnonzero(offsets)
        # tables that follow each other in both places are read at once
        apart = (np.diff(present) != 1) | (np.diff(offsets[present]) != np.uint64(step))
        for run in np.split(present, np.flatnonzero(apart) + 1):
            part = content[int(run[0]) * step : (int(run[-1]) + 1) * step]
            if os.preadv(self.descriptor, [part], int(offsets[run[0]])) != len(part):
                raise LayerDamaged(str(self.path), "an L2 table is cut off")
        tables.byteswap(inplace=True)
        return tables

    def _check(self, tables: Numbers) -> None:
        bits = np.bitwise_or.reduce(tables, axis=None)
        if bits & COMPRESSED:
            plain, compressed = self._separate(tables)
            bits = np.bitwise_or.reduce(plain, axis=None)
            self._check_compressed(compressed)
        else:
            plain = tables
        unaligned = OFFSET & np.uint64(self.cluster_bytes - 1)
        if bits & (~(COPIED | OFFSET | ZERO) | unaligned):
            raise LayerDamaged(str(self.path), "an L2 entry is malformed")
        if plain.size and int((plain & OFFSET).max()) >= self.size:
            raise LayerDamaged(str(self.path), "an L2 entry points past the end of the file")

    def _separate(self, tables: Numbers) -> tuple[Numbers, Numbers]:
        flat = tables.reshape(-1)
        compressed = (flat & COMPRESSED) != 0
        return flat[~compressed], flat[compressed]

    def _check_compressed(self, entries: Numbers) -> None:
        if np.any(entries & COPIED) or int(self.compressed_extents(entries)[0].max()) >= self.size:
            raise LayerDamaged(
                str(self.path), "a compressed cluster is malformed or past the end of the file"
            )


@contextmanager
def open_image(path: Path, *, writable: bool = False) -> Iterator[Image]:
    """Open an image and read its header and L1 table.

    :param writable: for ``append`` and ``punch``; nothing else writes to a layer
    :raise LayerDamaged: it is missing or no sound qcow2 image
    :raise LayerUnsupported: it has a feature that is not understood here
    """
    try:
        file = path.open("r+b" if writable else "rb", buffering=0)
    except OSError as error:
        raise LayerDamaged(str(path), error.strerror or "it cannot be opened") from None
    with file:
        yield _read(path, file)


def with_tables(image: Image, header: Header) -> Image:
    """The same file as another header would have it read.

    :raise LayerDamaged: its L1 table is none
    """
    size = os.fstat(image.descriptor).st_size
    return replace(image, header=header, size=size, l1=_l1(image.path, image.file, header, size))


def _read(path: Path, file: FileIO) -> Image:
    found = preamble_of(path, file)
    size = os.fstat(file.fileno()).st_size
    return Image(
        path=path,
        file=file,
        header=found.header,
        size=size,
        backing=found.backing,
        backing_format=found.backing_format,
        compression=found.compression,
        has_bitmaps=found.has_bitmaps,
        luks=found.luks,
        l1=_l1(path, file, found.header, size),
    )


def _l1(path: Path, file: FileIO, header: Header, size: int) -> Numbers:
    length = header.l1_size * ENTRY_BYTES
    cluster_bytes = 1 << header.cluster_bits
    needed = -(-header.size // (cluster_bytes * (cluster_bytes // ENTRY_BYTES)))
    if length > MAX_L1_BYTES or header.l1_size < needed:
        raise LayerDamaged(str(path), "its L1 table does not fit its size")
    data = os.pread(file.fileno(), length, min(header.l1_table_offset, size))
    if len(data) < length or (length and header.l1_table_offset % cluster_bytes):
        raise LayerDamaged(str(path), "its L1 table is not in the file")
    raw = np.frombuffer(data, dtype=">u8").astype(np.uint64)
    offsets = raw & OFFSET
    _require_tables(path, raw, offsets, cluster_bytes, size)
    return offsets


def _require_tables(path: Path, raw: Numbers, offsets: Numbers, cluster_bytes: int, size: int) -> None:
    present = offsets[offsets != 0]
    # Tables that are used twice would make reading a small file endless.
    if len(np.unique(present)) != len(present):
        raise LayerDamaged(str(path), "two L1 entries share an L2 table")
    if np.any(raw & ~(COPIED | OFFSET)) or np.any(present % np.uint64(cluster_bytes)):
        raise LayerDamaged(str(path), "an L1 entry is malformed")
    if len(present) and int(present.max()) + cluster_bytes > size:
        raise LayerDamaged(str(path), "an L2 table is past the end of the file")
