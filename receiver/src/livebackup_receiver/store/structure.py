# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A quick look at the structure of a small qcow2 layer: all that ``qemu-img check`` asks, without a process.

A session of hundreds of disks would start hundreds of processes to look at some kilobytes each. Only what
is certainly whole and of the plain kind that receivers make is called sound here; for anything else
``qemu-img check`` decides. Field names are those of QEMU's docs/interop/qcow2.txt.
"""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from livebackup_receiver.store.qcow2 import (
    BACKING_FORMAT,
    CLUSTER_BITS,
    CLUSTER_BYTES,
    ENCRYPTION,
    FEATURE_NAMES,
    SPAN,
    Header,
    extensions_of,
    header_of,
)

SMALL_BYTES = 16 << 20
REFCOUNT_ORDER = 4
LEAST_HEADER = 104
COPIED, COMPRESSED, ZERO = 1 << 63, 1 << 62, 1
OFFSET = 0x00FFFFFFFFFFFE00
ENTRY, REFCOUNT = 8, 2


class NotPlain(Exception):
    """The layer is damaged, or of a kind that is not looked at here."""


def is_sound(path: Path) -> bool:
    """Whether a layer that nobody writes to is small, plain and whole; False says nothing."""
    if path.stat().st_size > SMALL_BYTES:
        return False
    content = path.read_bytes()
    try:
        header = _header(content)
        _require_parent(content, header, path)
        return _references(content, header) == _refcounts(content, header)
    except (NotPlain, ValueError):
        return False


def _header(content: bytes) -> Header:
    header = header_of(content)
    if len(content) < CLUSTER_BYTES or not header.is_new() or header.autoclear_features:
        raise NotPlain
    if header.refcount_order != REFCOUNT_ORDER or header.header_length < LEAST_HEADER:
        raise NotPlain
    if header.l1_size * CLUSTER_BYTES * (CLUSTER_BYTES // ENTRY) < header.size:
        raise NotPlain
    return header


def _require_parent(content: bytes, header: Header, path: Path) -> None:
    """A layer has no parent, or names a qcow2 file beside it."""
    at, length = header.backing_file_offset, header.backing_file_size
    extensions = _extensions(content, header)
    if not at and not extensions.get(BACKING_FORMAT):
        return
    name = content[at : at + length]
    if not at or extensions.get(BACKING_FORMAT) != b"qcow2" or not name.isascii() or not name.strip(b"\0"):
        raise NotPlain
    if not path.with_name(name.decode()).is_file():
        raise NotPlain


def _extensions(content: bytes, header: Header) -> dict[int, bytes]:
    found = extensions_of(content[:CLUSTER_BYTES], header)
    if not found.keys() <= {BACKING_FORMAT, FEATURE_NAMES, ENCRYPTION}:
        raise NotPlain
    return found


def _references(content: bytes, header: Header) -> Counter[int]:
    """How often each cluster is pointed at."""
    found: Counter[int] = Counter([0])
    found.update(_span(header.refcount_table_offset, header.refcount_table_bytes))
    found.update(_span(header.l1_table_offset, header.l1_size * ENTRY))
    if header.crypt_method:
        found.update(_luks(content, header))
    for entry in _table(content, header.refcount_table_offset, header.refcount_table_bytes // ENTRY):
        found[_cluster(content, entry, entry)] += 1
    for entry in _table(content, header.l1_table_offset, header.l1_size):
        l2 = _cluster(content, entry, entry & ~COPIED)
        found[l2] += 1
        _require_copied(entry)
        found.update(_data_clusters(content, l2))
    return found


def _luks(content: bytes, header: Header) -> range:
    """The clusters of the LUKS header."""
    span = _extensions(content, header).get(ENCRYPTION, b"")
    if len(span) != SPAN.size or sum(SPAN.unpack(span)) > len(content):
        raise NotPlain
    return _span(*SPAN.unpack(span))


def _data_clusters(content: bytes, l2: int) -> Iterator[int]:
    for entry in _table(content, l2 * CLUSTER_BYTES, CLUSTER_BYTES // ENTRY):
        if entry & COMPRESSED:
            raise NotPlain
        if entry != ZERO:
            _require_copied(entry)
            yield _cluster(content, entry, entry & ~(COPIED | ZERO))


def _refcounts(content: bytes, header: Header) -> Counter[int]:
    """The reference count that the layer itself keeps of each cluster."""
    found: Counter[int] = Counter()
    blocks = _numbers("Q", _read(content, header.refcount_table_offset, header.refcount_table_bytes))
    for number, block in enumerate(blocks):
        if block:
            counts = _numbers("H", _read(content, block, CLUSTER_BYTES))
            first = number * CLUSTER_BYTES // REFCOUNT
            found.update({first + place: count for place, count in enumerate(counts) if count})
    return found


def _table(content: bytes, offset: int, entries: int) -> list[int]:
    """The entries of a table that are not empty."""
    return [entry for entry in _numbers("Q", _read(content, offset, entries * ENTRY)) if entry]


def _read(content: bytes, offset: int, length: int) -> bytes:
    if offset % CLUSTER_BYTES or offset + length > len(content):
        raise NotPlain
    return content[offset : offset + length]


def _cluster(content: bytes, entry: int, offset: int) -> int:
    """The number of the cluster that an entry points at; nothing but an offset and known flags is in it."""
    if offset != entry & OFFSET or not offset or offset % CLUSTER_BYTES or offset >= len(content):
        raise NotPlain
    return offset >> CLUSTER_BITS


def _require_copied(entry: int) -> None:
    if not entry & COPIED:
        raise NotPlain


def _span(offset: int, length: int) -> range:
    return range(offset >> CLUSTER_BITS, (offset + length + CLUSTER_BYTES - 1) >> CLUSTER_BITS)


def _numbers(kind: str, data: bytes) -> array[int]:
    """Big-endian numbers, without those at the end that are 0: most of a table is."""
    numbers = array(kind)
    used = len(data.rstrip(b"\0"))
    numbers.frombytes(data[: used + -used % numbers.itemsize])
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers
