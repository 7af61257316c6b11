# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a sealed layer keeps the clusters that it holds itself, read from its own tables.

Only what this receiver writes is understood: qcow2 version 3 with clusters of 64 KiB, without
compression, encryption, internal snapshots, external data or extended L2 entries. The format is
described in QEMU's ``docs/interop/qcow2.txt``.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from livebackup_receiver.errors import LayerDamaged

CLUSTER_BITS = 16
CLUSTER_BYTES = 1 << CLUSTER_BITS
L2_ENTRIES = CLUSTER_BYTES // 8
MAGIC = b"QFI\xfb"
VERSION = 3

_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")
_OFFSET = np.uint64(0x00FF_FFFF_FFFF_FE00)
_COMPRESSED = np.uint64(1 << 62)
_ZERO = np.uint64(1)

Numbers = NDArray[np.uint64]


class Header(NamedTuple):
    """The fields of a header of version 3 under their names in QEMU's ``docs/interop/qcow2.txt``."""

    magic: bytes
    version: int
    backing_file_offset: int
    backing_file_size: int
    cluster_bits: int
    size: int
    crypt_method: int
    l1_size: int
    l1_table_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    nb_snapshots: int
    snapshots_offset: int
    incompatible_features: int
    compatible_features: int
    autoclear_features: int
    refcount_order: int
    header_length: int

    @property
    def refcount_table_bytes(self) -> int:
        """The length of the refcount table."""
        return self.refcount_table_clusters * CLUSTER_BYTES

    def is_plain(self) -> bool:
        """Whether the image is of the kind that the receiver makes; others are not understood here."""
        return (
            self.magic,
            self.version,
            self.cluster_bits,
            self.crypt_method,
            self.nb_snapshots,
            self.incompatible_features,
        ) == (MAGIC, VERSION, CLUSTER_BITS, 0, 0, 0)


def header_of(content: bytes) -> Header:
    """The header with which an image begins; what is missing counts as 0."""
    return Header(*_HEADER.unpack(content[: _HEADER.size].ljust(_HEADER.size, b"\0")))


@dataclass(frozen=True)
class Clusters:
    """Clusters of the disk, ascending: their numbers, and where they are in the file (0: all zeros)."""

    index: Numbers
    offset: Numbers


@dataclass(frozen=True)
class Layer:
    """An open layer; ``content`` is the whole file. Make it with ``open_layer``."""

    path: Path
    virtual_size: int
    has_backing: bool
    content: mmap.mmap
    file: BinaryIO
    l1: Numbers

    def own_clusters(self) -> Iterator[Clusters]:
        """The clusters that do not come from a parent, L2 table by L2 table.

        :raise LayerDamaged: a cluster is compressed
        """
        for number in np.flatnonzero(self.l1):
            table = _numbers(self.file, int(self.l1[number]), L2_ENTRIES)
            if np.any(table & _COMPRESSED):
                raise LayerDamaged(str(self.path), "it has compressed clusters")
            yield self._held(table, first=int(number) * L2_ENTRIES)

    def read(self, index: int, offset: int) -> bytes | memoryview:
        """The content of a cluster; what is past the end of disk or file is zeros."""
        valid = min(CLUSTER_BYTES, self.virtual_size - index * CLUSTER_BYTES)
        data = memoryview(self.content)[offset : offset + valid]
        return data if len(data) == CLUSTER_BYTES else bytes(data).ljust(CLUSTER_BYTES, b"\0")

    def _held(self, table: Numbers, *, first: int) -> Clusters:
        zero = (table & _ZERO) != 0
        offset = np.where(zero, np.uint64(0), table & _OFFSET)
        # Without a parent, an explicit zero says no more than nothing does.
        held = np.flatnonzero((offset != 0) | zero if self.has_backing else offset != 0)
        return Clusters((held + first).astype(np.uint64), offset[held])


@contextmanager
def open_layer(path: Path) -> Iterator[Layer]:
    """Open a layer that nobody writes to.

    :raise LayerDamaged: it is not of the kind that the receiver makes
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
        header = header_of(os.pread(file.fileno(), _HEADER.size, 0))
        if not header.is_plain():
            raise LayerDamaged(str(path), "it is not a plain qcow2 image with clusters of 64 KiB")
        l1 = _numbers(file, header.l1_table_offset, header.l1_size) & _OFFSET
        yield Layer(path, header.size, header.backing_file_offset != 0, content, file, l1)


def _numbers(file: BinaryIO, offset: int, count: int) -> Numbers:
    data = os.pread(file.fileno(), 8 * count, offset).ljust(8 * count, b"\0")
    return np.frombuffer(data, dtype=">u8").astype(np.uint64)
