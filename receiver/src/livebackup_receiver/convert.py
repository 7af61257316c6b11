# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A chain of layers as one image file without a parent, and the proof that it is what was backed up."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from io import FileIO
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from livebackup_receiver.chain import flat
from livebackup_receiver.chain.copying import Copier, Pace, at_once
from livebackup_receiver.chain.extents import AnyExtent, Readable, parts_of
from livebackup_receiver.chain.fold import Folded, folds
from livebackup_receiver.chain.image import Image, open_image
from livebackup_receiver.chain.merge import open_layers, require_mergeable, write_plain
from livebackup_receiver.chain.proof import check_fold
from livebackup_receiver.errors import LayerDamaged, LayerUnsupported
from livebackup_receiver.store import durable
from livebackup_receiver.store.digests import Table, read_chain
from livebackup_receiver.store.paths import DIGESTS_SUFFIX
from livebackup_receiver.store.qcow2 import CLUSTER_BYTES
from livebackup_receiver.store.ranges import ClusterNumbers, Range, clusters_of, ranges_of, words
from livebackup_receiver.store.verify import Expectation, Expected, damaged_ranges, whole_disk
from livebackup_receiver.subprocesses import run_in_thread


class Format(StrEnum):
    """Of the files that a restore writes."""

    QCOW2 = "qcow2"
    RAW = "raw"


class Copy(Protocol):
    """An older copy of the disk, from which parts are taken; see ``restoring.delta``."""

    image: Image | None

    def folds(self, layers: Sequence[Image]) -> Iterator[Folded]: ...

    def extents(self, layers: Sequence[Image]) -> Iterator[AnyExtent]: ...


def write(layers: Sequence[Path], target: Path, format: Format) -> None:
    """Write a chain's content into a new file, durable but for its name.

    :param layers: top first
    :raise LayerDamaged: a layer is no sound image
    :raise CommandFailed: qemu-img failed, which is asked where the layers are of a kind not understood here
    :raise OSError: a layer cannot be read, or the target not be written
    """
    target.unlink(missing_ok=True)
    with target.open("x+b", buffering=0) as file:
        fill(layers, file, target, format, copier=Copier(share=True))
    durable.sync_file(target)


def fill(
    layers: Sequence[Path],
    file: FileIO,
    path: Path,
    format: Format,
    *,
    copier: Copier,
    basis: Copy | None = None,
) -> bool:
    """Write a chain's content into an open file; the caller syncs it. Whether it was not left to qemu-img.

    What is in the file beyond what the copier says to be there already is lost.

    :param layers: top first
    :param path: of the file
    :raise LayerDamaged: a layer is no sound image
    :raise CommandFailed: qemu-img failed, which is asked where the layers are of a kind not understood here
    :raise OSError: a layer cannot be read, or the target not be written
    """
    try:
        with open_layers(layers[::-1]) as images:
            file.truncate(copier.begin)
            if format is Format.QCOW2:
                _fill_qcow2(images, file, path, copier, basis)
            else:
                found = basis.extents(images) if basis else flat.extents(images)
                flat.write_raw(found, images[-1].virtual_size, file, copier=copier)
    except LayerUnsupported:
        file.truncate(0)
        run_in_thread(["qemu-img", "convert", "-f", "qcow2", "-O", format, str(layers[0]), str(path)])
        return False
    return True


def _fill_qcow2(images: list[Image], file: FileIO, path: Path, copier: Copier, basis: Copy | None) -> None:
    require_mergeable(images, None)
    if basis and basis.image:
        write_plain([basis.image, *images], basis.folds(images), file, copier=copier)
        return
    write_plain(images, folds(images), file, copier=copier)
    with open_image(path) as made:
        check_fold(images, made)


def measure(layers: Sequence[Path]) -> int:
    """The bytes that a chain's data take as a file of either format, without its tables.

    :param layers: top first
    :raise LayerDamaged: a layer is no sound image
    """
    try:
        with open_layers(layers[::-1]) as images:
            return sum(int(runs.length.sum()) for runs in flat.disk_map(images))
    except LayerUnsupported:
        asked = ["qemu-img", "measure", "--output=json", "-f", "qcow2", "-O", "qcow2", str(layers[0])]
        return int(json.loads(run_in_thread(asked))["required"])


def tables_of(layers: Sequence[Path]) -> list[Table]:
    """The digest tables of a chain, from the full layer up.

    :param layers: top first
    :raise DigestsInvalid: a digest table is missing or damaged
    """
    return read_chain([layer.with_suffix(DIGESTS_SUFFIX) for layer in layers[::-1]])


def verify(layers: Sequence[Path], written: Path, format: Format) -> None:
    """Compare a written file with the digests of the chain, end to end.

    :param layers: top first
    :raise LayerDamaged: it differs, so a layer is not what was received
    :raise DigestsInvalid: a digest table is missing or damaged
    """
    tables = tables_of(layers)
    if damaged := damage_in(written, format, tables):
        (first, *dummy) = by_holder(layers, tables, damaged)
        raise LayerDamaged(str(first), f"the disk's bytes {words(damaged)} do not match their digests")


def damage_in(
    written: Path,
    format: Format,
    tables: Sequence[Table],
    *,
    pace: Pace = at_once,
    only: Sequence[Range] | None = None,
) -> list[Range]:
    """Where a written file is not what the digests say, end to end.

    :param pace: told the bytes before they are read; may raise to give way
    :param only: the parts of the disk that are looked at
    :raise LayerDamaged: it is no image at all
    """
    size = tables[-1].virtual_size
    with _extents_of(written, format, size) as extents:
        if only is not None:
            return _damage_within(extents, only, tables, pace)
        readable = (_Unpacked(each) for each in extents)
        return list(damaged_ranges(readable, size, whole_disk(tables), pace=pace))


def _damage_within(
    extents: Iterable[AnyExtent], ranges: Sequence[Range], tables: Sequence[Table], pace: Pace
) -> list[Range]:
    size, asked = tables[-1].virtual_size, clusters_of(ranges)
    parts = (_Unpacked(part) for extent in extents for part in _within(extent, asked))
    damaged = list(damaged_ranges(parts, size, _only(asked, whole_disk(tables)), pace=pace))
    return ranges_of(np.intersect1d(clusters_of(damaged), asked), size)


@contextmanager
def _extents_of(written: Path, format: Format, size: int) -> Iterator[Iterator[AnyExtent]]:
    if format is Format.QCOW2:
        with open_image(written) as image:
            yield flat.extents([image])
    else:
        with written.open("rb") as file:
            yield flat.file_extents(file.fileno(), size)


@dataclass(frozen=True)
class _Unpacked:
    """An extent; if it cannot be unpacked, zeros stand for it, and do not match its digest."""

    extent: Readable

    @property
    def offset(self) -> int:
        return self.extent.offset

    @property
    def length(self) -> int:
        return self.extent.length

    def announce(self, start: int, length: int) -> None:
        self.extent.announce(start, length)

    def read_into(self, buffer: memoryview, start: int) -> None:
        try:
            self.extent.read_into(buffer, start)
        except (LayerDamaged, OSError):
            buffer[:] = bytes(len(buffer))


def damage_in_store(layers: Sequence[Path], tables: Sequence[Table], ranges: Sequence[Range]) -> list[Range]:
    """Which parts of some ranges of a disk are not what the digests say in the layers themselves.

    :param layers: top first
    :raise LayerDamaged: a layer is no sound image
    """
    with open_layers(layers[::-1]) as images:
        return _damage_within(flat.extents(images), ranges, tables, at_once)


def _within(extent: AnyExtent, asked: ClusterNumbers) -> Iterator[AnyExtent]:
    first, count = extent.offset // CLUSTER_BYTES, -(-extent.length // CLUSTER_BYTES)
    for chosen, part in parts_of(extent, _among(asked, first, count)):
        if chosen:
            yield part


def _only(asked: ClusterNumbers, expect: Expectation) -> Expectation:
    def expect_some(first: int, count: int, present: NDArray[np.bool_]) -> Expected:
        expected = expect(first, count, present)
        return Expected(expected.digests, expected.relevant & _among(asked, first, count))

    return expect_some


def _among(asked: ClusterNumbers, first: int, count: int) -> NDArray[np.bool_]:
    chosen = np.zeros(count, bool)
    start, end = np.searchsorted(asked, [first, first + count])
    chosen[asked[start:end] - np.uint64(first)] = True
    return chosen


def by_holder(
    layers: Sequence[Path], tables: Sequence[Table], damaged: Sequence[Range]
) -> dict[Path, list[Range]]:
    """Damaged ranges of a disk by the layers that hold them; the uppermost layer first; pure.

    What no layer lists should be zeros. That is the lowest one's then, as every point may see it.

    :param layers: top first
    :param tables: of them, the lowest first
    """
    left, size = clusters_of(damaged), tables[-1].virtual_size
    found: dict[Path, list[Range]] = {}
    for layer, table in zip(layers, reversed(tables), strict=True):
        mine = left if layer == layers[-1] else np.intersect1d(left, table.index)
        if len(mine):
            found[layer] = ranges_of(mine, size)
        left = np.setdiff1d(left, mine)
    return found
