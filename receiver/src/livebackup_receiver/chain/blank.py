# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A new encrypted layer in which nothing is written yet.

QEMU would measure for a second and a half for each one how often it has to repeat a hash, to make the
guessing of passwords slow; keys are not guessed, and hundreds of layers begin together.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from livebackup_receiver.chain import layout
from livebackup_receiver.chain.copying import Copier
from livebackup_receiver.chain.image import ENTRY_BYTES
from livebackup_receiver.chain.layout import PAGE, Piece
from livebackup_receiver.chain.preamble import Span
from livebackup_receiver.store.qcow2 import CLUSTER_BITS, CLUSTER_BYTES, L2_ENTRIES


def write_blank(path: Path, *, virtual_size: int, parent: str | None, area: bytes) -> None:
    """Make the file of an encrypted layer; it is not durable yet.

    :param path: must not exist
    :param virtual_size: of the disk, in bytes
    :param parent: the name of its parent's file, which lies beside it
    :param area: its LUKS header, see ``Keyring.new_header``
    :raise OSError: it cannot be written
    """
    span = Span(CLUSTER_BYTES, len(area))
    references = layout.References(CLUSTER_BITS)
    references.add_span(*span)
    l1 = np.zeros(-(-virtual_size // (CLUSTER_BYTES * L2_ENTRIES)), np.uint64)
    l1_offset = layout.aligned(sum(span), CLUSTER_BYTES)
    place = l1_offset + layout.aligned(max(1, len(l1) * ENTRY_BYTES), CLUSTER_BYTES)
    plan = layout.Plan(virtual_size, CLUSTER_BITS, parent, luks=span)
    tail = layout.tail(plan, l1, references, l1_offset=l1_offset, place=place)
    copier = Copier(share=False)
    with path.open("xb", buffering=0) as file:
        for piece in (Piece(0, layout.header(tail.plan)), *area_pieces(area, span.offset), *tail.pieces):
            copier.write(file.fileno(), piece.content, piece.place)
        file.truncate(tail.end)


def area_pieces(area: bytes, place: int) -> Iterator[Piece]:
    """A LUKS header without the pages that are all zeros, which those of unused keys are."""
    for at in range(0, len(area), PAGE):
        page = area[at : at + PAGE]
        if any(page):
            yield Piece(place + at, page)
