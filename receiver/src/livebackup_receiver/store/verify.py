# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading data back and comparing it with the digests that were made when it was received."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from livebackup_receiver.chain.extents import Readable
from livebackup_receiver.store.digests import DIGEST_BYTES, ZERO, Digests, Table, compose
from livebackup_receiver.store.qcow2 import CLUSTER_BYTES

AT_ONCE = 256
# What follows each other on the disk lies anywhere in the file, so the kernel must be told what comes.
WINDOWS_AHEAD = 3
THREADS = 2
_DIGEST_OF_ZEROS = blake3(bytes(CLUSTER_BYTES)).digest()

Range = tuple[int, int]
"""Offset and length on the disk, in bytes."""


Part = tuple[Readable, int, int]
"""An extent, its first byte that is read, and how many are."""
Window = tuple[int, list[Part]]
"""The number of the first of ``AT_ONCE`` clusters, and what is in the files of them."""


@dataclass(frozen=True)
class Expected:
    """The digests of some clusters, and which of them matter."""

    digests: Digests
    relevant: NDArray[np.bool_]


Expectation = Callable[[int, int, NDArray[np.bool_]], Expected]
"""Of so many clusters from the first on, of which those in the mask were found to hold data."""


def whole_disk(tables: Sequence[Table]) -> Expectation:
    """Every cluster of a disk must be what its chain's tables say.

    :param tables: as ``read_chain`` gives them
    """

    def expect(first: int, count: int, present: NDArray[np.bool_]) -> Expected:
        return Expected(compose(tables, first, count), np.ones(count, bool))

    return expect


def one_layer(table: Table, *, unseen: Callable[[int, int], NDArray[np.bool_]] | None = None) -> Expectation:
    """What a layer holds itself must be what its own table says.

    :param unseen: which clusters nobody reads, because every child of a dropped layer masks them
    """

    def expect(first: int, count: int, present: NDArray[np.bool_]) -> Expected:
        start, end = np.searchsorted(table.index, [first, first + count])
        relevant = present.copy()
        relevant[table.index[start:end] - np.uint64(first)] = True
        if unseen:
            relevant &= ~unseen(first, count)
        return Expected(compose([table], first, count), relevant)

    return expect


def damaged_ranges(
    extents: Iterable[Readable], virtual_size: int, expect: Expectation, *, pace: Callable[[int], None]
) -> Iterator[Range]:
    """Where data differ from their digests, ascending, neighbours as one range.

    :param pace: told the bytes before they are read; may wait, or raise to give way
    :raise OSError: data cannot be read
    :raise LayerDamaged: a compressed cluster cannot be unpacked
    """
    clusters = -(-virtual_size // CLUSTER_BYTES)
    with ThreadPoolExecutor(THREADS) as pool:
        damaged = _damaged_clusters(extents, clusters, expect, pool, pace)
        for first, count in _joined(damaged):
            offset = first * CLUSTER_BYTES
            yield offset, min(count * CLUSTER_BYTES, virtual_size - offset)


def _damaged_clusters(
    extents: Iterable[Readable],
    clusters: int,
    expect: Expectation,
    pool: ThreadPoolExecutor,
    pace: Callable[[int], None],
) -> Iterator[int]:
    seen = 0
    buffer = memoryview(bytearray(AT_ONCE * CLUSTER_BYTES))
    for first, parts in _ahead(_windows(extents)):
        yield from _missing(seen, first, expect)
        count = min(AT_ONCE, clusters - first)
        found, present = _read(parts, first, count, buffer, pool, pace)
        expected = expect(first, count, present)
        differ = (found != expected.digests).any(axis=1) & expected.relevant
        yield from (first + np.flatnonzero(differ)).tolist()
        seen = first + count
    yield from _missing(seen, clusters, expect)


def _ahead(windows: Iterable[Window]) -> Iterator[Window]:
    """The same windows; the kernel fetches the next ones meanwhile."""
    waiting: deque[Window] = deque()
    for window in windows:
        for extent, start, length in window[1]:
            extent.announce(start, length)
        waiting.append(window)
        if len(waiting) > WINDOWS_AHEAD:
            yield waiting.popleft()
    yield from waiting


def _missing(start: int, end: int, expect: Expectation) -> Iterator[int]:
    """Clusters without any data that should not be zeros."""
    for first in range(start, end, AT_ONCE * AT_ONCE):
        count = min(AT_ONCE * AT_ONCE, end - first)
        expected = expect(first, count, np.zeros(count, bool))
        wrong = expected.digests.any(axis=1) & expected.relevant
        yield from (first + np.flatnonzero(wrong)).tolist()


def _windows(extents: Iterable[Readable]) -> Iterator[Window]:
    """Parts of extents by the window of clusters they are in."""
    size = AT_ONCE * CLUSTER_BYTES
    current = -1
    parts: list[Part] = []
    for extent in extents:
        start = 0
        while start < extent.length:
            window = (extent.offset + start) // size
            if window != current:
                if parts:
                    yield current * AT_ONCE, parts
                current, parts = window, []
            length = min(extent.length - start, (window + 1) * size - extent.offset - start)
            parts.append((extent, start, length))
            start += length
    if parts:
        yield current * AT_ONCE, parts


def _read(
    parts: Sequence[Part],
    first: int,
    count: int,
    buffer: memoryview,
    pool: ThreadPoolExecutor,
    pace: Callable[[int], None],
) -> tuple[Digests, NDArray[np.bool_]]:
    """The digests of what is in the files now, and which clusters hold data."""
    present = np.zeros(count, bool)
    pace(sum(part[2] for part in parts))
    for extent, start, length in parts:
        begin = extent.offset + start - first * CLUSTER_BYTES
        touched = slice(begin // CLUSTER_BYTES, -(-(begin + length) // CLUSTER_BYTES))
        present[touched] = True
        if begin % CLUSTER_BYTES or length % CLUSTER_BYTES:
            whole = slice(touched.start * CLUSTER_BYTES, touched.stop * CLUSTER_BYTES)
            buffer[whole] = bytes(whole.stop - whole.start)
    for extent, start, length in parts:
        begin = extent.offset + start - first * CLUSTER_BYTES
        extent.read_into(buffer[begin : begin + length], start)
    return _digests(buffer, present, pool), present


def _digests(buffer: memoryview, present: NDArray[np.bool_], pool: ThreadPoolExecutor) -> Digests:
    found = np.zeros((len(present), DIGEST_BYTES), np.uint8)
    numbers = np.flatnonzero(present)
    for share in pool.map(lambda some: (some, digest_all(buffer, some)), np.array_split(numbers, THREADS)):
        found[share[0]] = np.frombuffer(share[1], np.uint8).reshape(-1, DIGEST_BYTES)
    return found


def digest_all(buffer: memoryview, numbers: NDArray[np.int64]) -> bytes:
    """The digests of these clusters of a buffer, one after the other; of zeros it is zero."""
    parts = (buffer[number * CLUSTER_BYTES : (number + 1) * CLUSTER_BYTES] for number in numbers.tolist())
    digests = (blake3(part).digest() for part in parts)
    return b"".join(ZERO if digest == _DIGEST_OF_ZEROS else digest for digest in digests)


def _joined(clusters: Iterable[int]) -> Iterator[tuple[int, int]]:
    first, count = -1, 0
    for cluster in clusters:
        if count and cluster == first + count:
            count += 1
            continue
        if count:
            yield first, count
        first, count = cluster, 1
    if count:
        yield first, count
