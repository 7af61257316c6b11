# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The digest table beside each layer: what every 64 KiB cluster that the layer holds contains.

``<point>.digests``, version 1, all numbers little-endian:

======= ================ ==========================================================================
offset  length           content
======= ================ ==========================================================================
0       8                ``LBDIGEST``
8       4                version: 1
12      4                bytes in a cluster: 65536
16      8                size of the disk at this point, in bytes
24      8                number of clusters in this table (n)
32      32               blake3 of everything from offset 64 on, and then of the bytes 0 to 31
64      8 n              the clusters' numbers, ascending
64+8n   32 n             for each its digest: blake3 of its 65536 bytes; 32 zero bytes if all are zero
======= ================ ==========================================================================

The last cluster of a disk counts as if it were filled up with zeros, so its digest stays right when
the disk grows. Clusters that a layer does not hold are its parent's; those that no layer of a chain
holds are zeros. A full layer lists no cluster only because it is zero.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from livebackup_receiver.chain.extents import Extent
from livebackup_receiver.chain.fold import Entries, folds
from livebackup_receiver.chain.image import OFFSET, Image, open_image
from livebackup_receiver.chain.keyring import cipher_of
from livebackup_receiver.chain.xts import Xts
from livebackup_receiver.errors import DigestsInvalid, LayerUnsupported
from livebackup_receiver.store import durable
from livebackup_receiver.store.qcow2 import CLUSTER_BITS, CLUSTER_BYTES

MAGIC = b"LBDIGEST"
VERSION = 1
DIGEST_BYTES = 32
ZERO = bytes(DIGEST_BYTES)
# 2 GiB of the disk: a megabyte of digests at a time
CLUSTERS_AT_ONCE = 32768
# With fewer clusters, threads cost more than they save.
WORTH_THREADS = 64

_HEADER = struct.Struct("<8sIIQQ")
_FRAME = struct.Struct("<QI")
_GROUP = struct.Struct("<Q")
HEAD_BYTES = _HEADER.size + DIGEST_BYTES
_DIGEST_OF_ZEROS = blake3(bytes(CLUSTER_BYTES)).digest()

Digests = NDArray[np.uint8]
_Cluster = tuple[int, int | None]
"""The number of a cluster, and its place in a file; None: it is all zeros."""


@dataclass(frozen=True)
class Table:
    """A table whose content has been checked; ``digests`` has a row for each number in ``index``."""

    virtual_size: int
    index: NDArray[np.uint64]
    digests: Digests

    @property
    def clusters(self) -> int:
        """How many clusters the disk has."""
        return -(-self.virtual_size // CLUSTER_BYTES)


def write_table(layer: Path, table: Path, *, sync_name: bool = True) -> None:
    """Read a layer and write its table durably.

    :param sync_name: False: the caller brings the directory's names to the disk
    :raise LayerDamaged: the layer is no sound image
    :raise LayerUnsupported: it is not of the kind that the receiver takes in
    :raise KeyMissing: it is encrypted, and its key was not given
    """
    with open_image(layer) as image:
        cipher = cipher_of(image)
        _write(
            table,
            image.virtual_size,
            (held.index.astype(np.uint64) for held in _own(image)),
            (_digests(image, cipher, held) for held in _own(image)),
            sync_name=sync_name,
        )


def write_merged(tables: Sequence[Table], path: Path, *, parented: bool) -> None:
    """Write the table of a layer that was merged from several, durably; no data is read.

    :param tables: of the layers, bottom first
    :param parented: the merged layer has a parent, so what is zero must be listed
    """
    _write(
        path,
        tables[-1].virtual_size,
        (index for index, dummy in _merged(tables, parented=parented)),
        (digests.tobytes() for dummy, digests in _merged(tables, parented=parented)),
    )


def _write(
    path: Path,
    virtual_size: int,
    numbers: Iterable[NDArray[np.uint64]],
    digests: Iterable[bytes],
    *,
    sync_name: bool = True,
) -> None:
    with durable.writing(path, sync_name=sync_name) as file:
        file.write(bytes(HEAD_BYTES))
        body = blake3(max_threads=blake3.AUTO)
        count = 0
        for index in numbers:
            count += len(index)
            body.update(part := index.astype("<u8").tobytes())
            file.write(part)
        for part in digests:
            body.update(part)
            file.write(part)
        header = _HEADER.pack(MAGIC, VERSION, CLUSTER_BYTES, virtual_size, count)
        file.seek(0)
        file.write(header + body.update(header).digest())


def _merged(tables: Sequence[Table], *, parented: bool) -> Iterator[tuple[NDArray[np.uint64], Digests]]:
    """What several tables say together, some clusters at a time; pure."""
    clusters = tables[-1].clusters
    for group in _groups(tables):
        first = group * CLUSTERS_AT_ONCE
        count = min(CLUSTERS_AT_ONCE, clusters - first)
        if count <= 0:
            return
        listed = np.zeros(count, bool)
        for table in tables:
            listed[_listed(table, first, count) - np.uint64(first)] = True
        digests = compose(tables, first, count)
        if not parented:
            listed &= digests.any(axis=1)
        yield (np.flatnonzero(listed) + first).astype(np.uint64), digests[listed]


def root_of(tables: Sequence[Table]) -> str:
    """The digest of a disk's whole content, as ``blake3:<hex>``; pure.

    It is blake3 of the disk's size and the size of a cluster (8 and 4 bytes), and then, for each group of
    32768 clusters that is not all zeros, of the group's number (8 bytes) and of blake3 over the group's
    digests, in which a cluster of zeros counts as 32 zero bytes. Numbers are little-endian.

    :param tables: as ``read_chain`` gives them
    """
    top = tables[-1]
    root = blake3(_FRAME.pack(top.virtual_size, CLUSTER_BYTES))
    for group in _groups(tables):
        first = group * CLUSTERS_AT_ONCE
        count = min(CLUSTERS_AT_ONCE, top.clusters - first)
        digests = compose(tables, first, count) if count > 0 else np.zeros((0, DIGEST_BYTES), np.uint8)
        if digests.any():
            root.update(_GROUP.pack(group) + blake3(digests.tobytes()).digest())
    return f"blake3:{root.hexdigest()}"


def _groups(tables: Sequence[Table]) -> list[int]:
    """The groups of clusters that any of the tables lists, ascending."""
    found = [np.unique(table.index // np.uint64(CLUSTERS_AT_ONCE)) for table in tables]
    return [int(number) for number in np.unique(np.concatenate(found))]


def _listed(table: Table, first: int, count: int) -> NDArray[np.uint64]:
    start, end = np.searchsorted(table.index, [first, first + count])
    return table.index[start:end]


def _own(image: Image) -> Iterator[Entries]:
    """The clusters that do not come from a parent, some L2 tables at a time."""
    if image.cluster_bits != CLUSTER_BITS:
        raise LayerUnsupported(str(image.path), "its clusters are not of 64 KiB")
    for folded in folds([image]):
        held = folded.held
        if held.compressed.any():
            raise LayerUnsupported(str(image.path), "it has compressed clusters")
        # Without a parent, an explicit zero says no more than nothing does.
        yield held if image.backing else held.only(held.data)


def _digests(image: Image, cipher: Xts | None, held: Entries) -> bytes:
    places = np.where(held.zero, np.uint64(0), held.entries & OFFSET).tolist()
    clusters = [(number, place or None) for number, place in zip(held.index.tolist(), places, strict=True)]
    return _digests_of(_Disk(image.descriptor, image.virtual_size, cipher), clusters)


def digests_of_places(
    descriptor: int, virtual_size: int, index: NDArray[np.int64], places: NDArray[np.int64]
) -> bytes:
    """The digests of clusters that lie plain in a file, one after the other.

    :param index: their numbers on the disk
    :param places: in the file, in bytes
    :raise OSError: the file cannot be read
    """
    clusters = list(zip(index.tolist(), places.tolist(), strict=True))
    return _digests_of(_Disk(descriptor, virtual_size, None), clusters)


@dataclass(frozen=True)
class _Disk:
    """A file in which clusters of a disk lie."""

    descriptor: int
    virtual_size: int
    cipher: Xts | None


def _digests_of(disk: _Disk, clusters: Sequence[_Cluster]) -> bytes:
    workers = os.cpu_count() or 1
    if len(clusters) < WORTH_THREADS:
        return _digest_all(disk, clusters)
    size = -(-len(clusters) // workers)
    shares = [clusters[start : start + size] for start in range(0, len(clusters), size)]
    with ThreadPoolExecutor(workers) as pool:
        return b"".join(pool.map(lambda share: _digest_all(disk, share), shares))


def _digest_all(disk: _Disk, clusters: Sequence[_Cluster]) -> bytes:
    buffer = memoryview(bytearray(CLUSTER_BYTES))
    digests = []
    for index, place in clusters:
        valid = min(CLUSTER_BYTES, disk.virtual_size - index * CLUSTER_BYTES) if place is not None else 0
        buffer[valid:] = bytes(CLUSTER_BYTES - valid)
        if place is not None:
            Extent(0, valid, disk.descriptor, place, disk.cipher).read_into(buffer[:valid], 0)
        digest = blake3(buffer).digest() if place is not None else ZERO
        digests.append(ZERO if digest == _DIGEST_OF_ZEROS else digest)
    return b"".join(digests)


def read_table(path: Path) -> Table:
    """Open a table and check every byte of it: a wrong one would leave changes out of a backup.

    :raise DigestsInvalid: it is missing, damaged, or of another version
    """
    try:
        content = np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise DigestsInvalid(str(path), getattr(error, "strerror", None) or "it is empty") from None
    header, digest = content[: _HEADER.size].tobytes(), content[_HEADER.size : HEAD_BYTES].tobytes()
    if len(digest) < DIGEST_BYTES:
        raise DigestsInvalid(str(path), "it is too short")
    magic, version, cluster, virtual_size, count = _HEADER.unpack(header)
    if (magic, version, cluster) != (MAGIC, VERSION, CLUSTER_BYTES):
        raise DigestsInvalid(str(path), "it is of another format")
    body = content[HEAD_BYTES:]
    found = blake3(body.data, max_threads=blake3.AUTO).update(header).digest()
    if len(body) != count * (8 + DIGEST_BYTES) or found != digest:
        raise DigestsInvalid(str(path), "its bytes do not match its digest")
    numbers, digests = body[: 8 * count], body[8 * count :]
    return Table(virtual_size, numbers.view("<u8"), digests.reshape(count, DIGEST_BYTES))


def read_chain(paths: Sequence[Path]) -> list[Table]:
    """The tables of a disk's layers, from the full one up to the point.

    :raise DigestsInvalid: one is not usable, or the disk was smaller at a later point
    """
    tables = [read_table(path) for path in paths]
    for (lower, upper), path in zip(pairwise(tables), paths[1:], strict=True):
        if upper.virtual_size < lower.virtual_size:
            raise DigestsInvalid(str(path), "the disk has shrunk")
    return tables


def compose(tables: Sequence[Table], first: int, count: int) -> Digests:
    """The digests of ``count`` clusters of a disk from ``first`` on; pure.

    :param tables: as ``read_chain`` gives them
    """
    composed = np.zeros((count, DIGEST_BYTES), dtype=np.uint8)
    for table in tables:
        start, end = np.searchsorted(table.index, [first, first + count])
        composed[table.index[start:end] - np.uint64(first)] = table.digests[start:end]
    return composed


def frames(tables: Sequence[Table]) -> Iterator[bytes]:
    """The digests of a whole disk as the API sends them, leaving out the clusters that are zero; pure.

    A frame is the number of its first cluster (8 bytes), how many follow each other (4 bytes), both
    little-endian, and their digests. The last frame has none, and the number of the disk's clusters.
    """
    clusters = tables[-1].clusters
    for first in range(0, clusters, CLUSTERS_AT_ONCE):
        digests = compose(tables, first, min(CLUSTERS_AT_ONCE, clusters - first))
        yield b"".join(
            _FRAME.pack(first + start, end - start) + digests[start:end].tobytes()
            for start, end in _runs(digests)
        )
    yield _FRAME.pack(clusters, 0)


def _runs(digests: Digests) -> list[tuple[int, int]]:
    """Where the rows that are not zero begin and end."""
    present = np.any(digests, axis=1).astype(np.int8)
    edges = np.flatnonzero(np.diff(present, prepend=0, append=0)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))
