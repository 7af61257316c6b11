# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeping damage out of what is compared: no disk has content with the digest that damaged clusters get."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from livebackup_receiver.store.digests import DIGEST_BYTES, Table
from livebackup_receiver.store.ranges import Range, clusters_of

NO_DIGEST = 0xFF


def over(table: Table, ranges: Sequence[Range]) -> Table:
    """What to lay over a layer's table, below those of the layers above it; pure.

    :param ranges: where the layer is damaged
    """
    damaged = clusters_of(ranges)
    digests = np.full((len(damaged), DIGEST_BYTES), NO_DIGEST, np.uint8)
    return Table(table.virtual_size, damaged, digests)
