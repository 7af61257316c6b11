# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plugin for nbdkit: a disk that keeps nothing but compares what is written to it with digests.

For internal use of livebackup.qemu only.

nbdkit runs the text of this file in a process of its own, so it imports nothing of the collection. What it
finds it leaves in the file ``proven``: a byte for every 64 KiB cluster, 1 if the cluster was seen and is the
same. Anything that is not proven counts as changed, so no fault in here can leave a change out.
"""

from __future__ import annotations

import mmap
import struct
import sys
from typing import Any

API_VERSION = 2
CLUSTER_BYTES = 65536
DIGEST_BYTES = 32
ZERO = bytes(DIGEST_BYTES)
# before the first cluster's byte: 1 when we are ready, then one more for every request, as a sign of life
PULSE = struct.Struct("<Q")
MAX_REQUEST = 32 << 20

_options: dict[str, str] = {}


class Comparer:
    """``digests`` has 32 bytes for each cluster of a disk of ``size`` bytes, all zero for a zero cluster."""

    def __init__(self, size: int, digests: Any, proven: Any, blake3: Any) -> None:
        self.size = size
        self._digests = digests
        self._proven = proven
        self._blake3 = blake3
        self._digest_of_zeros = blake3(bytes(CLUSTER_BYTES)).digest()
        self._requests = 0

    def write(self, data: memoryview, offset: int) -> None:
        """Compare the whole clusters in ``data``; a part of a cluster proves nothing."""
        if offset % CLUSTER_BYTES == 0:
            for start in range(0, len(data), CLUSTER_BYTES):
                piece = data[start : start + CLUSTER_BYTES]
                if len(piece) == CLUSTER_BYTES or offset + start + len(piece) == self.size:
                    self._compare((offset + start) // CLUSTER_BYTES, piece)
        self.live()

    def zero(self, count: int, offset: int) -> None:
        """The same for ``count`` bytes of zeros."""
        first, end = -(-offset // CLUSTER_BYTES), (offset + count) // CLUSTER_BYTES
        if offset + count == self.size:
            end = -(-self.size // CLUSTER_BYTES)
        expected = self._digests[first * DIGEST_BYTES : end * DIGEST_BYTES]
        if expected.count(b"\0") == len(expected):
            self._prove(first, b"\1" * max(0, end - first))
        else:
            for index in range(first, end):
                if self._expected(index) == ZERO:
                    self._prove(index, b"\1")
        self.live()

    def _compare(self, index: int, piece: memoryview) -> None:
        whole = piece if len(piece) == CLUSTER_BYTES else bytes(piece).ljust(CLUSTER_BYTES, b"\0")
        expected = self._expected(index)
        if self._blake3(whole).digest() == (self._digest_of_zeros if expected == ZERO else expected):
            self._prove(index, b"\1")

    def _expected(self, index: int) -> bytes:
        found: bytes = self._digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]
        return found

    def _prove(self, index: int, ones: bytes) -> None:
        start = PULSE.size + index
        self._proven[start : start + len(ones)] = ones

    def live(self) -> None:
        """Show that we do."""
        self._requests += 1
        PULSE.pack_into(self._proven, 0, self._requests)


_comparers: list[Comparer] = []


def config(key: str, value: str) -> None:
    """``size``, ``digests`` and ``proven`` (numbers of open files), ``libraries`` (where blake3 is)."""
    _options[key] = value


def config_complete() -> None:
    """nbdkit: all options are known. What takes time is done here, and not while QEMU waits in ``open``."""
    sys.path.append(_options["libraries"])
    from blake3 import blake3

    digests = mmap.mmap(int(_options["digests"]), 0, prot=mmap.PROT_READ)
    proven = mmap.mmap(int(_options["proven"]), 0)
    _comparers.append(Comparer(int(_options["size"]), digests, proven, blake3))
    _comparers[0].live()


def open(readonly: bool) -> Comparer:
    """nbdkit: a client has come, the only one."""
    return _comparers[0]


def get_size(comparer: Comparer) -> int:
    """nbdkit: the disk's size."""
    return comparer.size


def block_size(comparer: Comparer) -> tuple[int, int, int]:
    """nbdkit: minimum, preferred, maximum size of a request."""
    return 1, CLUSTER_BYTES, MAX_REQUEST


def pread(comparer: Comparer, buffer: bytearray, offset: int, flags: int) -> None:
    """nbdkit: there is nothing to read."""
    raise RuntimeError("this disk keeps nothing that could be read")


def pwrite(comparer: Comparer, data: bytearray, offset: int, flags: int) -> None:
    """nbdkit: data."""
    comparer.write(memoryview(data), offset)


def zero(comparer: Comparer, count: int, offset: int, flags: int) -> None:
    """nbdkit: zeros."""
    comparer.zero(count, offset)
