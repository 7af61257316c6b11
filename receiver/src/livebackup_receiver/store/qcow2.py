# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The header of a qcow2 file, as QEMU's ``docs/interop/qcow2.txt`` describes it."""

from __future__ import annotations

import struct
from typing import NamedTuple

CLUSTER_BITS = 16
CLUSTER_BYTES = 1 << CLUSTER_BITS
L2_ENTRIES = CLUSTER_BYTES // 8
MAGIC = b"QFI\xfb"
VERSION = 3
# The number of LUKS as the way in which an image is encrypted.
LUKS = 2
# Header extensions begin with their kind and the length of their content.
EXTENSION = struct.Struct(">II")
END, BACKING_FORMAT, FEATURE_NAMES, BITMAPS = 0, 0xE2792ACA, 0x6803F857, 0x23852875
# The one that says where the LUKS header lies; its content is offset and length.
ENCRYPTION = 0x0537BE77
SPAN = struct.Struct(">QQ")

_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")


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

    def is_new(self) -> bool:
        """Whether the image is of the kind that the receiver takes in, plain or encrypted with LUKS."""
        return self.crypt_method in (0, LUKS) and (
            self.magic,
            self.version,
            self.cluster_bits,
            self.nb_snapshots,
            self.incompatible_features,
        ) == (MAGIC, VERSION, CLUSTER_BITS, 0, 0)


def header_of(content: bytes) -> Header:
    """The header with which an image begins; what is missing counts as 0."""
    return Header(*_HEADER.unpack(content[: _HEADER.size].ljust(_HEADER.size, b"\0")))


def extensions_of(content: bytes, header: Header) -> dict[int, bytes]:
    """The content of each header extension, by its kind.

    :param content: the first cluster
    :raise ValueError: one is cut off
    """
    area = content[: header.backing_file_offset or len(content)]
    found: dict[int, bytes] = {}
    offset = header.header_length
    while offset + EXTENSION.size <= len(area):
        kind, length = EXTENSION.unpack_from(area, offset)
        if kind == END:
            break
        offset += EXTENSION.size
        if offset + length > len(area):
            raise ValueError("a header extension is cut off")
        found[kind] = area[offset : offset + length]
        offset += (length + 7) // 8 * 8
    return found
