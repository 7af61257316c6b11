# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a disk held at a point, in digests, for hosts that restore it and check what they read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from livebackup_receiver.catalog.points import disk_chain, load_point, require_point
from livebackup_receiver.restore import check_layers, layers_held, select_disks
from livebackup_receiver.scrub.known import require_sound
from livebackup_receiver.state import Receiver
from livebackup_receiver.store import digests


@dataclass(frozen=True)
class DigestChain:
    """The layers of a disk at a point and their digest tables, both top first.

    ``recheck`` raises if the point was dropped before its layers could be held.
    """

    layers: tuple[Path, ...]
    tables: tuple[Path, ...]
    recheck: Callable[[], None] = field(default=lambda: None, compare=False)


def find_chain(receiver: Receiver, point: str, vm: str, disk: str) -> DigestChain:
    """The chain of a disk at a point, as the catalog has it.

    :raise PointUnknown: there is no such point, or it was dropped
    :raise VmUnknown: the point does not hold the VM
    :raise DiskUnknown: the point does not hold the disk
    :raise PointDamaged: damage is known that the disk shows at this point
    """
    with receiver.catalog.read() as db:
        select_disks(load_point(db, point), vm, [disk])
        chain = disk_chain(db, point=point, vm=vm, disk=disk)
    require_sound(receiver.catalog, receiver.store, point, vm, [disk])
    directory = receiver.store.disk(vm, disk)
    return DigestChain(
        layers=tuple(receiver.store.root / link.layer for link in chain),
        tables=tuple(directory.digests(link.point) for link in chain),
        recheck=lambda: require_point(receiver.catalog, point),
    )


def open_tables(chain: DigestChain) -> Sequence[digests.Table]:
    """The tables of a chain, the full layer's first, opened while nobody merges.

    They stay what they are when the layers are merged later: a table is replaced, and never changed.

    :raise LayerDamaged: a layer is missing, or its chain leads elsewhere than it should
    :raise DigestsInvalid: a table cannot be used
    """
    with layers_held(chain.layers):
        chain.recheck()
        check_layers(chain.layers)
        return digests.read_chain(chain.tables[::-1])
