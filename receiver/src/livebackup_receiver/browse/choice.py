# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which layers a guest is given, and which of its file systems a path means."""

from __future__ import annotations

from collections.abc import Sequence

from livebackup_receiver.browse.entries import OWN_TREE, FileSystem
from livebackup_receiver.catalog import points
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.exports import Wanted
from livebackup_receiver.restore import chain_layers, select_disks
from livebackup_receiver.scrub.known import require_sound
from livebackup_receiver.store.paths import Store


def find_wanted(catalog: Catalog, store: Store, point_id: str, vm: str, *, accept_damage: bool) -> Wanted:
    """All disks of a VM at a point, as the catalog has them now.

    :param accept_damage: also if they are known to be damaged
    :raise PointUnknown: there is no such point
    :raise VmUnknown: the VM is not in it
    :raise PointDamaged: a disk is known to be damaged at this point
    """
    with catalog.read() as db:
        disks = select_disks(points.load_point(db, point_id), vm, None)
        chains = {
            disk.disk: chain_layers(points.disk_chain(db, point=point_id, vm=vm, disk=disk.disk), store.root)
            for disk in disks
        }
    if not accept_damage:
        require_sound(catalog, store, point_id, vm, list(chains))
    return Wanted(point_id, vm, disks, chains, lambda: points.require_point(catalog, point_id))


def split(path: str) -> tuple[str | None, str]:
    """File system and path of what somebody has written; pure.

    ``sda1:/etc/hosts`` names both, ``sda1`` or ``sda1:`` the root of one; ``/etc/hosts`` names none.
    """
    if path.startswith("/"):
        return None, path
    name, colon, rest = path.partition(":/")
    return name.removesuffix(":"), f"/{rest}" if colon else "/"


def usual(file_systems: Sequence[FileSystem]) -> str:
    """The file system that a path means which names none: the only one, else the guest's own tree; pure."""
    readable = [each.name for each in file_systems if each.problem is None]
    return readable[0] if len(readable) == 1 else OWN_TREE
