# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last look before merged tables are believed: read back, do they say what the layers say?

Only tables are read. That each cluster went to its place is the work of the kernel, and of the digests that a
scrub or a restore compares.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from livebackup_receiver.chain.fold import Entries, Folded, folds
from livebackup_receiver.chain.image import COMPRESSED, OFFSET, ZERO, Image, Numbers
from livebackup_receiver.errors import LayerDamaged


def check_fold(layers: Sequence[Image], merged: Image) -> None:
    """Compare merged tables with those of the layers.

    :raise LayerDamaged: they do not hold the same
    """
    seen = np.zeros(merged.tables, bool)
    used = [merged.l1[merged.l1 != 0]]
    for folded in folds(layers):
        found = merged.l2(folded.slots)
        _require_same(folded, found, merged, parented=layers[0].backing is not None)
        seen[folded.slots] = True
        if found is not None:
            used.append(_places(found))
    if merged.virtual_size != layers[-1].virtual_size or np.any(merged.l1[: merged.tables][~seen]):
        raise LayerDamaged(str(merged.path), "it holds more than the layers it was merged from")
    places = np.concatenate(used)
    if len(np.unique(places)) != len(places):
        raise LayerDamaged(str(merged.path), "two of its entries share a cluster")


def _require_same(folded: Folded, found: Numbers | None, image: Image, *, parented: bool) -> None:
    entries = np.zeros_like(folded.entries) if found is None else found.reshape(-1)
    wanted, made = folded.every, Entries(folded.every.index, entries, folded.source)
    same = (
        np.array_equal(wanted.data, made.data)
        and np.array_equal(wanted.compressed, made.compressed)
        and (not parented or np.array_equal(wanted.zero, made.zero))
        and np.array_equal(_lengths(wanted, image), _lengths(made, image))
    )
    if not same:
        raise LayerDamaged(str(image.path), "its tables are not those of the layers it was merged from")


def _lengths(entries: Entries, image: Image) -> Numbers:
    """A compressed cluster keeps its number of sectors."""
    lengths: Numbers = entries.entries[entries.compressed] >> np.uint64(62 - (image.cluster_bits - 8))
    return lengths


def _places(tables: Numbers) -> Numbers:
    plain = tables[((tables & COMPRESSED) == 0) & ((tables & ZERO) == 0)] & OFFSET
    places: Numbers = plain[plain != 0]
    return places
