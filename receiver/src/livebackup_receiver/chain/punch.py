# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frees the clusters of a layer that nobody can see any more: no data is moved and no table is changed.

Of a layer whose point is dropped only what its children do not mask is still read. The rest becomes holes
in the file, while the layer's tables go on pointing at them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import reduce
from pathlib import Path

import numpy as np

from livebackup_receiver.chain import holes
from livebackup_receiver.chain.fold import held
from livebackup_receiver.chain.image import COMPRESSED, OFFSET, ZERO, Image, Numbers, Slots, open_image
from livebackup_receiver.errors import LayerUnsupported


def punch(ghost: Path, children: Sequence[Path]) -> int:
    """Free what every child masks; the bytes that are freed, as far as they took room.

    The caller has seen to it that nobody reads the ghost but through these children.

    :param children: every layer whose parent the ghost is; at least one
    :raise LayerDamaged: a layer is no sound image
    :raise LayerUnsupported: the layers differ in the size of their clusters
    :raise OSError: the file system cannot make holes
    """
    with ExitStack() as stack:
        lower = stack.enter_context(open_image(ghost, writable=True))
        upper = [stack.enter_context(open_image(path)) for path in children]
        for child in upper:
            if child.cluster_bits != lower.cluster_bits or child.backing != ghost.name:
                raise LayerUnsupported(str(child.path), f"it does not lie on {ghost.name} cluster by cluster")
        before = ghost.stat().st_blocks
        for offset, length in _masked_runs(lower, upper):
            holes.punch(lower.descriptor, offset, length)
        return (before - ghost.stat().st_blocks) * 512


def _masked_runs(lower: Image, upper: Sequence[Image]) -> Iterator[tuple[int, int]]:
    for slots, tables in lower.batches():
        masked = reduce(np.logical_and, (_masks(child, lower, slots) for child in upper))
        host = np.sort(_plain(tables)[masked & (_plain(tables) != 0)])
        yield from _runs(host, lower.cluster_bytes)


def _masks(child: Image, lower: Image, slots: Slots) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which clusters of these tables cannot be seen through a child."""
    tables = child.l2(slots)
    if tables is None:
        tables = np.zeros((len(slots), lower.entries), np.uint64)
    masks = held(tables)
    if child.clusters < lower.clusters:
        # Past the end of the child there is nothing to be seen through it.
        cluster = slots[:, None] * lower.entries + np.arange(lower.entries)
        masks |= cluster >= child.clusters
    return masks


def _plain(tables: Numbers) -> Numbers:
    """The offsets of clusters that lie in the file as they are; 0 for others.

    Compressed ones share blocks with others and are left alone.
    """
    offsets = tables & OFFSET
    offsets[((tables & COMPRESSED) != 0) | ((tables & ZERO) != 0)] = 0
    return offsets


def _runs(host: Numbers, step: int) -> Iterator[tuple[int, int]]:
    for run in np.split(host, np.flatnonzero(np.diff(host) != np.uint64(step)) + 1):
        if len(run):
            yield int(run[0]), len(run) * step
