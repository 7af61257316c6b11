# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of a disk that lie in one piece in a layer's file: plain, encrypted or compressed."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import numpy as np
import zstandard
from numpy.typing import NDArray

from livebackup_receiver.chain.copying import BUFFER_BYTES, Copier, ReadFailed
from livebackup_receiver.chain.image import Image
from livebackup_receiver.chain.preamble import ZLIB
from livebackup_receiver.chain.xts import SECTOR, Xts
from livebackup_receiver.errors import LayerDamaged
from livebackup_receiver.store.qcow2 import CLUSTER_BYTES

# QEMU's zlib clusters have no header, and a window of 4 KiB (qcow2.txt, "Compressed clusters").
ZLIB_WINDOW = -12


@dataclass(frozen=True)
class Extent:
    """Bytes of the disk from ``offset`` on; they are at ``place`` in the file, past whose end are zeros.

    :param cipher: what decrypts them; None: they are plain
    """

    offset: int
    length: int
    descriptor: int
    place: int
    cipher: Xts | None = None

    def announce(self, start: int, length: int) -> None:
        """Have the kernel fetch what will be read soon."""
        os.posix_fadvise(self.descriptor, self.place + start, length, os.POSIX_FADV_WILLNEED)

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill a buffer with the extent from its byte ``start`` on.

        :raise OSError: the file cannot be read
        """
        place = self.place + start
        if self.cipher is None:
            done = _read(self.descriptor, buffer, place)
        else:
            done = self._decrypt(self.cipher, buffer, place)
        buffer[done:] = bytes(len(buffer) - done)

    def _decrypt(self, cipher: Xts, buffer: memoryview, place: int) -> int:
        """Read whole sectors, of which the buffer gets its part; how many bytes there were."""
        first, end = place // SECTOR, -(-(place + len(buffer)) // SECTOR)
        sectors = memoryview(bytearray((end - first) * SECTOR))
        whole = _read(self.descriptor, sectors, first * SECTOR) // SECTOR * SECTOR
        plain = cipher.decrypt(sectors[:whole], first)[place - first * SECTOR :][: len(buffer)]
        buffer[: len(plain)] = plain
        return len(plain)


@dataclass(frozen=True)
class PackedCluster:
    """A compressed cluster; it is within ``start`` and ``end`` in the file."""

    offset: int
    length: int
    image: Image
    start: int
    end: int

    def announce(self, start: int, length: int) -> None:
        """Have the kernel fetch the whole cluster, which will be read soon."""
        extent = self.start, self.end - self.start
        os.posix_fadvise(self.image.descriptor, *extent, os.POSIX_FADV_WILLNEED)

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill a buffer with the cluster from its byte ``start`` on.

        :raise LayerDamaged: it cannot be unpacked
        """
        buffer[:] = self.unpack()[start : start + len(buffer)]

    def unpack(self) -> bytes:
        """The cluster as it was.

        :raise LayerDamaged: it cannot be unpacked
        """
        packed = os.pread(self.image.descriptor, self.end - self.start, self.start)
        size = self.image.cluster_bytes
        try:
            if self.image.compression == ZLIB:
                content = zlib.decompressobj(ZLIB_WINDOW).decompress(packed, size)
            else:
                # No more than that: a few kilobytes can say "four gigabytes of zeros".
                content = zstandard.ZstdDecompressor().stream_reader(packed).read(size + 1)
        except (zlib.error, zstandard.ZstdError) as error:
            raise LayerDamaged(
                str(self.image.path), f"a compressed cluster cannot be unpacked: {error}"
            ) from None
        if len(content) != size:
            raise LayerDamaged(str(self.image.path), "a compressed cluster has another length")
        return content


def _read(descriptor: int, buffer: memoryview, place: int) -> int:
    """Fill a buffer from a file; how many bytes there were until its end."""
    done = 0
    while done < len(buffer) and (count := os.preadv(descriptor, [buffer[done:]], place + done)):
        done += count
    return done


AnyExtent = Extent | PackedCluster


class Readable(Protocol):
    """A part of a disk that can be read."""

    @property
    def offset(self) -> int: ...

    @property
    def length(self) -> int: ...

    def announce(self, start: int, length: int) -> None: ...

    def read_into(self, buffer: memoryview, start: int) -> None: ...


def parts_of(extent: AnyExtent, chosen: NDArray[np.bool_]) -> Iterator[tuple[bool, AnyExtent]]:
    """An extent in parts, each of clusters that are all chosen, or none of them.

    :param chosen: for each cluster of 64 KiB; a compressed one is an extent of its own
    """
    edges = [0, *(np.flatnonzero(np.diff(chosen)) + 1).tolist(), len(chosen)]
    for first, end in pairwise(edges):
        start = first * CLUSTER_BYTES
        length = min(end * CLUSTER_BYTES, extent.length) - start
        part = extent
        if isinstance(extent, Extent):
            part = replace(extent, offset=extent.offset + start, length=length, place=extent.place + start)
        yield bool(chosen[first]), part


def recode(extent: Extent, target: int, place: int, cipher: Xts | None, copier: Copier) -> None:
    """Bring an extent to a place in another file, where it is encrypted with another key, or not at all.

    :param target: the descriptor that is written
    :param cipher: with what it is encrypted there, by whole sectors; None: it is plain
    :raise ReadFailed: it cannot be read
    :raise OSError: it cannot be written
    """
    for start in range(0, extent.length, BUFFER_BYTES):
        length = min(BUFFER_BYTES, extent.length - start)
        if place + start + length <= copier.begin:
            copier.kept_bytes += length
            continue
        copier.pace(length)
        content = memoryview(bytearray(length))
        _fill(content, extent, start, copier)
        written = cipher.encrypt(content, (place + start) // SECTOR) if cipher else bytes(content)
        copier.write(target, written, place + start)
        copier.wrote(place + start + length)


def _fill(content: memoryview, extent: Extent, start: int, copier: Copier) -> None:
    try:
        extent.read_into(content, start)
    except OSError as error:
        if not copier.forgiving:
            raise ReadFailed(error, extent.descriptor) from None
        content[:] = bytes(len(content))
