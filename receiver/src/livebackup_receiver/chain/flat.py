# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole chain as one list of extents, in the order of the disk: however long it is, each is read once.

QEMU asks every layer for every part of the disk, so it reads a chain of 200 layers 35 times slower than one
file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import FileIO

import numpy as np
from numpy.typing import NDArray

from livebackup_receiver.chain.copying import Copier
from livebackup_receiver.chain.extents import AnyExtent, Extent, PackedCluster, recode
from livebackup_receiver.chain.fold import Entries, Folded, folds
from livebackup_receiver.chain.image import COMPRESSED, COPIED, OFFSET, ZERO, Image, Numbers
from livebackup_receiver.chain.keyring import cipher_of
from livebackup_receiver.errors import LayerDamaged, LayerUnsupported

MAX_EXTENT = 64 << 20
# Tables that are looked at several times stay in a processor's cache.
TABLES_IN_CACHE = 4


@dataclass(frozen=True)
class Runs:
    """Extents as arrays of one length; of a compressed cluster ``place`` is 0, ``entry`` says where it is.

    :param offset: on the disk, in bytes, ascending
    :param length: in bytes
    :param source: the number of the layer
    :param place: in that layer's file
    """

    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    source: NDArray[np.uint16]
    place: NDArray[np.int64]
    entry: Numbers


def disk_map(layers: Sequence[Image]) -> Iterator[Runs]:
    """Where everything is that a chain holds, ascending; what is not listed is zeros.

    :param layers: bottom first, the lowest without a parent
    :raise LayerDamaged: a table cannot be read
    :raise LayerUnsupported: their clusters are not of one size
    """
    for layer in layers:
        if layer.cluster_bits != layers[-1].cluster_bits:
            raise LayerUnsupported(str(layer.path), "its clusters are of another size")
    if len(layers) == 1:
        yield from _map_of_one(layers[0])
        return
    for folded in folds(layers):
        yield _runs(layers, folded.held)


def extents(layers: Sequence[Image]) -> Iterator[AnyExtent]:
    """The same as ``disk_map``, one by one.

    :raise KeyMissing: a layer is encrypted, and its key was not given
    """
    ciphers = [cipher_of(layer) for layer in layers]
    for runs in disk_map(layers):
        columns = (runs.offset, runs.length, runs.source, runs.place, runs.entry)
        for offset, length, source, place, entry in zip(*(each.tolist() for each in columns), strict=True):
            layer = layers[source]
            if place:
                yield Extent(offset, length, layer.descriptor, place, ciphers[source])
            else:
                first, last = layer.compressed_extents(np.array([entry], np.uint64))
                yield PackedCluster(offset, length, layer, int(first[0]), int(last[0]))


def file_extents(descriptor: int, size: int) -> Iterator[Extent]:
    """What a raw image holds, ascending, without its holes."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError:
            return
        offset = min(os.lseek(descriptor, start, os.SEEK_HOLE), start + MAX_EXTENT)
        yield Extent(start, offset - start, descriptor, start)


def write_raw(found: Iterable[AnyExtent], size: int, file: FileIO, *, copier: Copier) -> None:
    """Bring extents of a disk to their places in a raw image, with holes for its zeros; the caller syncs it.

    :param file: empty but for what the copier does not copy again
    :raise LayerDamaged: a compressed cluster cannot be unpacked
    :raise OSError: a layer cannot be read, or the target not be written
    """
    file.truncate(size)
    for extent in found:
        if isinstance(extent, PackedCluster):
            _unpack(extent, file, copier)
        elif extent.cipher is None:
            copier.copy(extent.descriptor, extent.place, file.fileno(), extent.offset, extent.length)
        else:
            recode(extent, file.fileno(), extent.offset, None, copier)


def _unpack(cluster: PackedCluster, file: FileIO, copier: Copier) -> None:
    end = cluster.offset + cluster.length
    if end <= copier.begin:
        copier.kept_bytes += cluster.length
        return
    copier.pace(cluster.length)
    try:
        copier.write(file.fileno(), cluster.unpack()[: cluster.length], cluster.offset)
    except LayerDamaged:
        if not copier.forgiving:
            raise
    copier.wrote(end)


def _map_of_one(image: Image) -> Iterator[Runs]:
    """A full disk of a terabyte has 16 million entries, so those that say the usual are not taken apart."""
    for slots, tables in image.batches(TABLES_IN_CACHE):
        flat = tables.reshape(-1)
        together = int(slots[-1]) - int(slots[0]) < len(slots)
        if together and _are_all_data(flat):
            yield _plain_runs(image, int(slots[0]) * image.entries, flat)
        else:
            source = np.zeros(len(flat), np.uint16)
            yield _runs([image], Folded(slots, image.entries, flat, source).held)


def _are_all_data(entries: Numbers) -> bool:
    """Whether none of the entries is missing, compressed, zeros, or shared with a snapshot."""
    everywhere, anywhere = np.bitwise_and.reduce(entries), np.bitwise_or.reduce(entries)
    return bool(everywhere & COPIED) and not anywhere & (COMPRESSED | ZERO) and bool(entries.min() & OFFSET)


def _plain_runs(image: Image, first: int, entries: Numbers) -> Runs:
    """Runs of clusters from the first on, which are all data."""
    step = image.cluster_bytes
    entries = entries[: image.clusters - first]
    edges = np.flatnonzero(entries[1:] - entries[:-1] != np.uint64(step)) + 1
    starts, ends = np.append(0, edges), np.append(edges, len(entries))
    offset = (first + starts) * step
    length = np.minimum((ends - starts) * step, image.virtual_size - offset)
    nothing = np.zeros(len(starts), np.uint64)
    place = (entries[starts] & OFFSET).astype(np.int64)
    return Runs(offset, length, nothing.astype(np.uint16), place, nothing)


def _runs(layers: Sequence[Image], held: Entries) -> Runs:
    """Runs of clusters that follow each other on the disk and in their file."""
    step = layers[-1].cluster_bytes
    found = held.only(~held.zero)
    packed = found.compressed
    host = np.where(packed, np.uint64(0), found.entries & OFFSET)
    apart = (np.diff(found.index) != 1) | (found.source[1:] != found.source[:-1])
    # two compressed clusters are both at 0 here, so they never follow each other
    apart |= np.diff(host) != np.uint64(step)
    edges = np.flatnonzero(apart) + 1
    starts, ends = np.append(0, edges), np.append(edges, len(host))
    if not len(host):
        starts = ends = edges
    offset, source = found.index[starts] * step, found.source[starts]
    # a layer that is shorter than the disk is zeros past its own end
    sizes = np.array([min(layer.virtual_size, layers[-1].virtual_size) for layer in layers], np.int64)
    length = np.minimum((ends - starts) * step, sizes[source] - offset)
    return Runs(offset, length, source, host[starts].astype(np.int64), found.entries[starts])
