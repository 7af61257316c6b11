# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several file systems as one store: each disk has its directory on one of them.

``<store>/vms/<vm>/<disk>`` is the directory itself, or a symbolic link to ``<volume>/vms/<vm>/<disk>``. All
layers of a disk lie together, so a volume alone can be restored with qemu-img.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from livebackup_receiver.errors import StoreFailed
from livebackup_receiver.store import durable, room
from livebackup_receiver.store.lock import LOCK_NAME
from livebackup_receiver.store.paths import Store

Disk = tuple[str, str]


def assign(
    needs: Mapping[Disk, int], homes: Mapping[Disk, Path], free: Mapping[Path, int]
) -> dict[Disk, Path]:
    """The volume of each disk: where it is, or, for a new one, where the most room is left; pure.

    :param needs: the bytes that each disk will probably store
    :param homes: the volumes of the disks that have one
    :param free: the free bytes of each volume
    """
    left = dict(free)
    chosen = dict(homes)
    for disk, home in homes.items():
        left[home] = left.get(home, 0) - needs.get(disk, 0)
    for disk in sorted(set(needs) - set(homes), key=lambda each: (-needs[each], each)):
        chosen[disk] = max(left, key=lambda volume: left[volume])
        left[chosen[disk]] -= needs[disk]
    return {disk: chosen[disk] for disk in needs}


def homes_of(store: Store, volumes: Sequence[Path], needs: Mapping[Disk, int]) -> dict[Disk, Path]:
    """The volume of each disk, as ``assign`` finds it; the first volume is the store itself.

    :raise StoreFailed: a volume is not there
    """
    roots = [store.root, *volumes]
    free = {root: free_bytes(root) for root in roots}
    known = {disk: home for disk in needs if (home := home_of(store, volumes, disk))}
    return assign(needs, known, free)


def home_of(store: Store, volumes: Sequence[Path], disk: Disk) -> Path | None:
    """The volume on which a disk has its directory, if it has one.

    :raise StoreFailed: it leads to a place that is not there, or is no volume
    """
    path = store.disk(*disk).path
    if not path.is_symlink():
        return store.root if path.is_dir() else None
    target = Path(os.readlink(path))
    for volume in volumes:
        if target.is_relative_to(volume) and path.is_dir():
            return volume
    raise StoreFailed(str(path), f"it leads to {target}, which is not there, or on none of the volumes")


def make_home(store: Store, disk: Disk, home: Path) -> None:
    """Make the directory of a disk on its volume, and the link to it, each durable.

    :raise OSError: it cannot be made
    """
    path = store.disk(*disk).path
    if path.is_dir():
        return
    if home == store.root:
        durable.make_directory(path)
        return
    durable.make_directory(Store(home).disk(*disk).path)
    durable.make_directory(path.parent)
    path.symlink_to(Store(home).disk(*disk).path)
    durable.sync_directory(path.parent)


def free_bytes(volume: Path) -> int:
    """What may still be written to a volume.

    :raise StoreFailed: it is not there; where it was mounted an empty directory is left
    """
    if not (volume / LOCK_NAME).exists():
        raise StoreFailed(str(volume), "it is not there any more; is its file system mounted?")
    try:
        return room.free_bytes(volume)
    except OSError as error:
        raise StoreFailed(str(volume), error.strerror or str(error)) from None
