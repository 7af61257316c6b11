# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which clusters of a file its own tables need; the others are room that can be given back."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from livebackup_receiver.chain import layout
from livebackup_receiver.chain.image import COMPRESSED, ENTRY_BYTES, OFFSET, Image, Numbers
from livebackup_receiver.errors import LayerDamaged


def references_of(image: Image) -> layout.References:
    """How often each cluster of an image is pointed at by its own tables.

    :raise LayerDamaged: a table points outside the file
    """
    header = image.header
    references = layout.References(image.cluster_bits)
    references.add_span(header.l1_table_offset, max(1, header.l1_size * ENTRY_BYTES))
    references.add_span(header.refcount_table_offset, header.refcount_table_clusters * image.cluster_bytes)
    references.add(_refcount_blocks(image))
    if image.luks:
        references.add_span(*image.luks)
    references.add(image.l1[image.l1 != 0])
    for dummy, tables in image.batches():
        flat = tables.reshape(-1)
        packed = (flat & COMPRESSED) != 0
        plain = flat[~packed] & OFFSET
        references.add(plain[plain != 0])
        if packed.any():
            references.add_extents(*image.compressed_extents(flat[packed]))
    return references


def unreferenced(image: Image) -> Iterator[tuple[int, int]]:
    """Offset and length of whole clusters in the file that nothing points at.

    :raise LayerDamaged: a table points outside the file
    """
    clusters = image.size // image.cluster_bytes
    free = np.flatnonzero(references_of(image).counts(clusters)[:clusters] == 0)
    for run in np.split(free, np.flatnonzero(np.diff(free) != 1) + 1):
        if len(run):
            yield int(run[0]) * image.cluster_bytes, len(run) * image.cluster_bytes


def _refcount_blocks(image: Image) -> Numbers:
    header = image.header
    length = header.refcount_table_clusters * image.cluster_bytes
    if header.refcount_table_offset + length > image.size:
        raise LayerDamaged(str(image.path), "its refcount table is not in the file")
    content = os.pread(image.descriptor, length, header.refcount_table_offset)
    blocks = np.frombuffer(content, ">u8").astype(np.uint64) & ~np.uint64(511)
    if len(blocks) and int(blocks.max()) >= image.size:
        raise LayerDamaged(str(image.path), "a refcount block is past the end of the file")
    used: Numbers = blocks[blocks != 0]
    return used
