# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written into a qcow2 file beside its data: header, tables, reference counts; pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from livebackup_receiver.chain.image import COPIED, ENTRY_BYTES, Numbers
from livebackup_receiver.chain.preamble import COMPRESSION_TYPE, REFCOUNT_ORDER, Span
from livebackup_receiver.store.qcow2 import (
    BACKING_FORMAT,
    ENCRYPTION,
    END,
    EXTENSION,
    LUKS,
    MAGIC,
    SPAN,
    VERSION,
    Header,
)

HEADER_LENGTH = 112
REFCOUNT_BYTES = 2
PAGE = 4096
SECTOR = 512

_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")


@dataclass(frozen=True)
class Piece:
    """Bytes at a place in a file."""

    place: int
    content: bytes


@dataclass(frozen=True)
class Plan:
    """What the header must say of an image.

    :param backing: the name of its parent's file, if it has one
    :param luks: where the LUKS header of an encrypted one lies
    """

    virtual_size: int
    cluster_bits: int
    backing: str | None
    compression: int = 0
    luks: Span | None = None
    l1_size: int = 0
    l1_offset: int = 0
    refcount_offset: int = 0
    refcount_clusters: int = 0


def header(plan: Plan) -> bytes:
    """The first bytes of an image, shorter than its first cluster."""
    extensions = b""
    if plan.luks:
        extensions += EXTENSION.pack(ENCRYPTION, SPAN.size) + SPAN.pack(*plan.luks)
    if plan.backing:
        name = b"qcow2"
        extensions += EXTENSION.pack(BACKING_FORMAT, len(name)) + name.ljust(8, b"\0")
    extensions += EXTENSION.pack(END, 0)
    backing = (plan.backing or "").encode()
    at = HEADER_LENGTH + len(extensions) if backing else 0
    fields = _HEADER.pack(
        MAGIC, VERSION, at, len(backing), plan.cluster_bits, plan.virtual_size,
        LUKS if plan.luks else 0,
        plan.l1_size, plan.l1_offset, plan.refcount_offset, plan.refcount_clusters, 0, 0,
        COMPRESSION_TYPE if plan.compression else 0, 0, 0, REFCOUNT_ORDER, HEADER_LENGTH,
    )  # fmt: skip
    kind = bytes([plan.compression]).ljust(HEADER_LENGTH - len(fields), b"\0")
    return fields + kind + extensions + backing


def flipped(sector: bytes, plan: Plan) -> bytes:
    """The first sector of an image with other tables; its name of the parent stays."""
    content = bytearray(sector)
    struct.pack_into(">Q", content, 24, plan.virtual_size)
    struct.pack_into(">I", content, 36, plan.l1_size)
    struct.pack_into(">QQI", content, 40, plan.l1_offset, plan.refcount_offset, plan.refcount_clusters)
    return bytes(content)


def header_with(header: Header, plan: Plan) -> Header:
    """The fields of a header that ``flipped`` makes."""
    return header._replace(
        size=plan.virtual_size,
        l1_size=plan.l1_size,
        l1_table_offset=plan.l1_offset,
        refcount_table_offset=plan.refcount_offset,
        refcount_table_clusters=plan.refcount_clusters,
    )


def table_pieces(tables: Numbers, place: int) -> Iterable[Piece]:
    """L2 tables that follow each other, without the pages that are all zeros: those stay holes."""
    pages = tables.reshape(-1, PAGE // ENTRY_BYTES) if tables.shape[1] * ENTRY_BYTES >= PAGE else tables
    used = np.flatnonzero(pages.any(axis=1))
    step = pages.shape[1] * ENTRY_BYTES
    for run in np.split(used, np.flatnonzero(np.diff(used) != 1) + 1):
        if len(run):
            content = pages[run[0] : run[-1] + 1].byteswap().tobytes()
            yield Piece(place + int(run[0]) * step, content)


@dataclass
class References:
    """How often each cluster of a file is pointed at."""

    cluster_bits: int
    _once: list[NDArray[np.int64]] = field(default_factory=lambda: [np.zeros(1, np.int64)])

    def add(self, offsets: Numbers) -> None:
        """Clusters that begin at these offsets are pointed at once more."""
        self._once.append((offsets >> np.uint64(self.cluster_bits)).astype(np.int64))

    def add_span(self, place: int, length: int) -> None:
        """Whole clusters of a table."""
        step = 1 << self.cluster_bits
        self._once.append(np.arange(place // step, -(-(place + length) // step), dtype=np.int64))

    def add_extents(self, start: Numbers, end: Numbers) -> None:
        """Compressed clusters point at every cluster that they touch; none is longer than one cluster."""
        first, last = (
            start >> np.uint64(self.cluster_bits),
            (end - np.uint64(1)) >> np.uint64(self.cluster_bits),
        )
        self._once.append(first.astype(np.int64))
        self._once.append(last[last != first].astype(np.int64))

    def counts(self, least: int) -> NDArray[np.int64]:
        """The count of each cluster, of at least so many."""
        return np.bincount(np.concatenate(self._once), minlength=least)


@dataclass(frozen=True)
class Tail:
    """What completes a file: its L1 table, reference counts, and the plan that points at them."""

    plan: Plan
    pieces: Sequence[Piece]
    end: int


def tail(plan: Plan, l1: Numbers, references: References, *, l1_offset: int, place: int) -> Tail:
    """The last tables of a file; those of the references are counted by themselves.

    :param l1: the offsets of the L2 tables, 0: none
    :param l1_offset: where the L1 table goes
    :param place: the end of all that is there already, aligned
    """
    step = 1 << plan.cluster_bits
    references.add(l1[l1 != 0])
    references.add_span(l1_offset, max(1, len(l1) * ENTRY_BYTES))
    blocks, tables = refcount_clusters(place // step, step)
    at = place + blocks * step
    references.add_span(place, (blocks + tables) * step)
    per_block = step // REFCOUNT_BYTES
    counts = references.counts(blocks * per_block)
    if int(counts.max()) >> 16:
        raise OverflowError("a cluster is pointed at more than 65535 times")
    table = np.zeros(tables * step // ENTRY_BYTES, np.uint64)
    table[:blocks] = place + np.arange(blocks, dtype=np.uint64) * np.uint64(step)
    entries = np.where(l1 != 0, l1 | COPIED, np.uint64(0))
    pieces = [
        Piece(place, _used(counts.astype(">u2"))),
        Piece(at, _used(table.astype(">u8"))),
        Piece(l1_offset, _used(entries.astype(">u8"))),
    ]
    complete = replace(
        plan, l1_size=len(l1), l1_offset=l1_offset, refcount_offset=at, refcount_clusters=tables
    )
    return Tail(complete, pieces, at + tables * step)


def _used(table: NDArray[Any]) -> bytes:
    """A table without its zeros at the end: behind the end of a file there are zeros anyway."""
    last = np.flatnonzero(table)
    return table[: int(last[-1]) + 1 if len(last) else 0].tobytes()


def refcount_clusters(used: int, cluster_bytes: int) -> tuple[int, int]:
    """How many refcount blocks and table clusters cover so many clusters and themselves."""
    blocks = tables = 1
    while True:
        total = used + blocks + tables
        need = -(-total // (cluster_bytes // REFCOUNT_BYTES))
        need_tables = -(-need * ENTRY_BYTES // cluster_bytes)
        if (need, need_tables) == (blocks, tables):
            return blocks, tables
        blocks, tables = need, need_tables


def aligned(length: int, step: int) -> int:
    """A length in whole steps."""
    return -(-length // step) * step
