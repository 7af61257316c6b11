# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which layers a restore reads and which files it writes, as data; how a chain is held while it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from livebackup_receiver.catalog.points import DiskPoint
from livebackup_receiver.chain.preamble import backing_name
from livebackup_receiver.convert import Format
from livebackup_receiver.errors import DiskUnknown, LayerDamaged, OptionsUnclear, VmUnknown
from livebackup_receiver.errors.unknown import among
from livebackup_receiver.model import Point, PointDisk
from livebackup_receiver.store import access
from livebackup_receiver.store.paths import check_name

PARTIAL_SUFFIX = ".partial"
STATE_SUFFIX = ".json"

P = TypeVar("P")
T = TypeVar("T")
Key = tuple[str, str]
"""VM and disk."""


class Stage(StrEnum):
    """What is being done for a disk."""

    COMPARING = "comparing"
    WRITING = "writing"
    VERIFYING = "verifying"


OnProgress = Callable[["DiskRestore", Stage, int, int], None]
"""Told the disk, the stage, the bytes done so far and the bytes expected; called in any thread."""


@dataclass(frozen=True)
class DiskRestore:
    """One disk: the layers it is read from, top first, and the file it is written to."""

    vm: str
    disk: str
    layers: tuple[Path, ...]
    target: Path
    virtual_size: int

    @property
    def partial(self) -> Path:
        """The file it is written to until it is complete."""
        return self.target.with_name(self.target.name + PARTIAL_SUFFIX)

    @property
    def state(self) -> Path:
        """What is known of that file, for the run after one that was killed."""
        return self.target.with_name(self.partial.name + STATE_SUFFIX)


@dataclass(frozen=True)
class RestorePlan:
    """What a restore reads and writes.

    :param tracked: whether each file is the disk of the VM it was backed up from, whose backups go on
    """

    point: str
    format: Format
    disks: tuple[DiskRestore, ...]
    tracked: bool = False

    @property
    def directories(self) -> list[Path]:
        """Where files are written."""
        return list(dict.fromkeys(disk.target.parent for disk in self.disks))


@dataclass(frozen=True)
class Wish:
    """Which part of a point is wanted, and under which name.

    :param vms: none: every VM of the point
    :param disks: none: every disk of them
    :param name: of the only VM, if it shall have another one
    """

    vms: Sequence[str] = ()
    disks: Sequence[str] = ()
    name: str | None = None


def select_disks(point: Point, vm: str, disks: Sequence[str] | None) -> list[PointDisk]:
    """The disks of a VM at a point, all or those that are named.

    :raise VmUnknown: the point does not hold the VM
    :raise DiskUnknown: the point does not hold one of the disks
    """
    held = {disk.disk: disk for found in point.vms if found.vm == vm for disk in found.disks}
    if not held:
        raise VmUnknown(vm, f"point {point.id}", among(each.vm for each in point.vms))
    for disk in disks or ():
        if disk not in held:
            raise DiskUnknown(vm, disk, f"point {point.id}", among(held))
    return [held[disk] for disk in dict.fromkeys(disks or held)]


def select(point: Point, wish: Wish) -> list[Key]:
    """The disks of a point that are wanted.

    :raise VmUnknown: the point does not hold one of the VMs
    :raise DiskUnknown: the point does not hold one of the disks
    :raise NameInvalid: the new name cannot be that of a directory
    :raise OptionsUnclear: one VM's disks or name are wanted of several VMs
    """
    vms = list(dict.fromkeys(wish.vms or (vm.vm for vm in point.vms)))
    for option, given in (("--disk", wish.disks), ("--as", wish.name)):
        if given and len(vms) > 1:
            problem = f"{option} is for one VM, and {len(vms)} are to be restored: {', '.join(vms)}"
            raise OptionsUnclear(problem, "name the one with --vm")
    if wish.name is not None:
        check_name("VM", wish.name)
    return [(vm, disk.disk) for vm in vms for disk in select_disks(point, vm, wish.disks)]


def chain_layers(chain: Sequence[DiskPoint], store: Path) -> tuple[Path, ...]:
    """The files of a chain, top first."""
    return tuple(store / link.layer for link in chain)


def plan_restore(
    point: Point,
    chains: Mapping[Key, Sequence[DiskPoint]],
    *,
    store: Path,
    directory: Path,
    format: Format,
    name: str | None = None,
) -> RestorePlan:
    """Plan to restore the disks in ``chains``, each into a file ``<directory>/<vm>/<disk>.<format>``.

    :param name: of the VM, if it is not to have its own
    """
    disks = tuple(
        DiskRestore(
            vm,
            disk,
            chain_layers(chain, store),
            directory / (name or vm) / f"{disk}.{format}",
            chain[0].virtual_size,
        )
        for (vm, disk), chain in chains.items()
    )
    tracked = format is Format.QCOW2 and all(name in (None, disk.vm) for disk in disks)
    return RestorePlan(point.id, format, disks, tracked)


async def on_newest_chain(plan: Callable[[], P], act: Callable[[P], Awaitable[T]]) -> T:
    """Act on chains as the catalog has them; plan anew if layers were merged before they could be held.

    :raise LayerDamaged: a layer is missing or damaged, and not because of that
    """
    planned = await asyncio.to_thread(plan)
    while True:
        try:
            return await act(planned)
        except LayerDamaged:
            again = await asyncio.to_thread(plan)
            if again == planned:
                raise
            planned = again


@contextmanager
def layers_held(layers: Iterable[Path]) -> Iterator[None]:
    """Nobody merges or frees these layers while the block runs.

    :raise LayerDamaged: one is missing
    """
    paths = list(layers)
    with access.opening(path.parent for path in paths if path.parent.is_dir()), access.reading(paths):
        yield


def check_layers(layers: Sequence[Path]) -> None:
    """See that a chain leads, by the names in its files, where the catalog says it does.

    :param layers: top first
    :raise LayerDamaged: it does not, or a layer is missing
    """
    for layer, below in zip_longest(layers, layers[1:]):
        if (found := backing_name(layer)) != (below.name if below else None):
            raise LayerDamaged(str(layer), f"its parent is {found}, and not {below.name if below else None}")
