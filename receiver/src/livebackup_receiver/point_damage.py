# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a part of a disk still is what was backed up, for hosts that have received something else."""

from __future__ import annotations

from collections.abc import Sequence

from livebackup_receiver import convert
from livebackup_receiver.point_digests import DigestChain
from livebackup_receiver.restore import check_layers, layers_held
from livebackup_receiver.scrub.known import refusal_of_ranges
from livebackup_receiver.state import Receiver
from livebackup_receiver.store import digests
from livebackup_receiver.store.ranges import Range


def require_sound_ranges(
    receiver: Receiver, point: str, vm: str, disk: str, chain: DigestChain, ranges: Sequence[Range]
) -> None:
    """Read parts of a disk from the store, and compare them with their digests; nothing is kept of that.

    :param ranges: of the disk, in bytes
    :raise PointDamaged: they are not what was backed up; it names the points at which they are
    :raise LayerDamaged: a layer is missing, or is no sound image
    :raise DigestsInvalid: a table cannot be used
    """
    with layers_held(chain.layers):
        chain.recheck()
        check_layers(chain.layers)
        tables = digests.read_chain(chain.tables[::-1])
        lost = convert.damage_in_store(chain.layers, tables, ranges)
    if lost:
        found = convert.by_holder(chain.layers, tables, lost)
        by_point = {layer.stem: held for layer, held in found.items()}
        raise refusal_of_ranges(receiver.catalog, receiver.store, point, vm, disk, by_point)
