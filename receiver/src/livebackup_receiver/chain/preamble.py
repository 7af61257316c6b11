# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a qcow2 file says of itself in its first cluster, and whether it is to be believed and understood."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from livebackup_receiver.errors import LayerDamaged, LayerUnsupported
from livebackup_receiver.store.qcow2 import (
    BACKING_FORMAT,
    BITMAPS,
    ENCRYPTION,
    LUKS,
    MAGIC,
    SPAN,
    VERSION,
    Header,
    extensions_of,
    header_of,
)

LEAST_HEADER = 104
REFCOUNT_ORDER = 4
COMPRESSION_TYPE = 1 << 3
ZLIB, ZSTD = 0, 1
# QEMU's own limit on names of backing files.
MAX_NAME = 1023
CLUSTER_BITS = range(9, 22)
USUAL_CLUSTER = 1 << 16
# Not what a receiver leaves: whoever made it so may mean harm, so QEMU is not asked to open it either.
DAMAGED_FEATURES = {
    0: "it was not closed cleanly",
    1: "it is marked as corrupt",
    2: "its data lie in another file",
}
EXTENDED_L2 = 1 << 4

# QEMU's is 2 MiB long.
MAX_LUKS_BYTES = 32 << 20


class Span(NamedTuple):
    """A place in a file and the length of what is there, in bytes."""

    offset: int
    length: int


@dataclass(frozen=True)
class Preamble:
    """The header and what follows it in the first cluster; ``luks`` is where the LUKS header lies."""

    header: Header
    backing: str | None
    backing_format: str | None
    compression: int
    has_bitmaps: bool
    luks: Span | None


def preamble_of(path: Path, file: FileIO) -> Preamble:
    """Read the first cluster of an open image.

    :raise LayerDamaged: it is no sound qcow2 image
    :raise LayerUnsupported: it has a feature that is not understood here
    """
    start = _first_cluster(file)
    header = header_of(start)
    _require_sound(path, header, start)
    backing = _backing(path, start, header)
    _require_understood(path, header)
    extensions = _extensions(path, start[: 1 << header.cluster_bits], header)
    name_format = extensions.get(BACKING_FORMAT)
    return Preamble(
        header=header,
        backing=backing,
        backing_format=name_format.decode("ascii", "replace") if name_format else None,
        compression=_compression(path, start, header),
        has_bitmaps=BITMAPS in extensions,
        luks=_luks(path, file, header, extensions),
    )


def backing_name(path: Path) -> str | None:
    """The name of an image's parent, also of an image that ``open_image`` does not understand.

    :raise LayerDamaged: it is missing, no qcow2 image, or leads elsewhere than to a file beside it
    """
    try:
        with path.open("rb", buffering=0) as file:
            start = _first_cluster(file)
    except OSError as error:
        raise LayerDamaged(str(path), error.strerror or "it cannot be opened") from None
    header = header_of(start)
    _require_sound(path, header, start)
    return _backing(path, start, header)


def _first_cluster(file: FileIO) -> bytes:
    """Whoever asks may ask of thousands of layers, so no more is read than a usual cluster has."""
    start = os.pread(file.fileno(), USUAL_CLUSTER, 0)
    bits = header_of(start).cluster_bits
    if bits in CLUSTER_BITS and 1 << bits > USUAL_CLUSTER:
        return os.pread(file.fileno(), 1 << bits, 0)
    return start


def _require_sound(path: Path, header: Header, start: bytes) -> None:
    if header.magic != MAGIC:
        raise LayerDamaged(str(path), "it is no qcow2 image")
    if header.version not in (2, VERSION) or header.cluster_bits not in CLUSTER_BITS:
        raise LayerDamaged(str(path), "its header is absurd")
    if header.version == VERSION and not LEAST_HEADER <= header.header_length <= len(start):
        raise LayerDamaged(str(path), "its header is absurd")
    for bit, problem in DAMAGED_FEATURES.items():
        if header.version == VERSION and header.incompatible_features >> bit & 1:
            raise LayerDamaged(str(path), problem)


def _require_understood(path: Path, header: Header) -> None:
    if header.version != VERSION:
        raise LayerUnsupported(str(path), "it is not of version 3")
    if header.incompatible_features & EXTENDED_L2:
        raise LayerUnsupported(str(path), "it has extended L2 entries")
    if header.incompatible_features & ~COMPRESSION_TYPE:
        raise LayerUnsupported(str(path), "it has features that this version does not know")
    if header.crypt_method not in (0, LUKS):
        raise LayerUnsupported(str(path), "it is encrypted in a way that nobody should use any more")
    if header.nb_snapshots:
        raise LayerUnsupported(str(path), "it has internal snapshots")
    if header.refcount_order != REFCOUNT_ORDER:
        raise LayerUnsupported(str(path), "its reference counts are not of 16 bits")


def _compression(path: Path, start: bytes, header: Header) -> int:
    if not header.incompatible_features & COMPRESSION_TYPE:
        return ZLIB
    kind = start[LEAST_HEADER] if header.header_length > LEAST_HEADER else ZLIB
    if kind not in (ZLIB, ZSTD):
        raise LayerUnsupported(str(path), "its compression is of an unknown kind")
    return kind


def _luks(path: Path, file: FileIO, header: Header, extensions: Mapping[int, bytes]) -> Span | None:
    if not header.crypt_method:
        return None
    found = extensions.get(ENCRYPTION, b"")
    span = Span(*SPAN.unpack(found)) if len(found) == SPAN.size else Span(0, 0)
    aligned = not span.offset % (1 << header.cluster_bits)
    inside = span.offset + span.length <= os.fstat(file.fileno()).st_size
    if not span.offset or not span.length or not aligned or not inside or span.length > MAX_LUKS_BYTES:
        raise LayerDamaged(str(path), "its LUKS header is not in the file")
    return span


def _backing(path: Path, start: bytes, header: Header) -> str | None:
    at, length = header.backing_file_offset, header.backing_file_size
    if not at:
        return None
    name = start[at : at + length]
    if length > MAX_NAME or len(name) < length or not name or b"\0" in name:
        raise LayerDamaged(str(path), "the name of its backing file is malformed")
    text = name.decode("utf-8", "replace")
    if "/" in text or ":" in text:
        # It would lead QEMU to a file, or a server, of somebody else's choice.
        raise LayerDamaged(str(path), "its backing file does not lie beside it")
    return text


def _extensions(path: Path, area: bytes, header: Header) -> dict[int, bytes]:
    try:
        return extensions_of(area, header)
    except ValueError as error:
        raise LayerDamaged(str(path), str(error)) from None
