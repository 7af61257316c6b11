# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restoring disks of a point into image files, on the receiver.

``plan_restore`` decides, from data alone, what is read and what is written; ``restore`` does it. A file
appears under its name only when every disk of the plan is complete and durable, and no file is replaced
unless that is asked for. A chain is read as one, however long it is; ``convert`` has the details.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from livebackup_receiver import convert, subprocesses
from livebackup_receiver.background import in_background
from livebackup_receiver.catalog.points import DiskPoint
from livebackup_receiver.chain.preamble import backing_name
from livebackup_receiver.completion import complete_in_thread
from livebackup_receiver.convert import Format
from livebackup_receiver.errors import (
    CommandFailed,
    DiskUnknown,
    LayerDamaged,
    TargetExists,
    TargetFull,
    TargetInUse,
    TargetUnwritable,
    VmUnknown,
)
from livebackup_receiver.model import Point, PointDisk
from livebackup_receiver.store import access, durable, room

LOOK_TIMEOUT_S = 120.0
PROGRESS_INTERVAL_S = 0.2
LOCKED = 'Failed to get "write" lock'
PARTIAL_SUFFIX = ".partial"

P = TypeVar("P")
T = TypeVar("T")
OnProgress = Callable[["DiskRestore", int, int], None]
"""Told the disk, the bytes written so far and the bytes expected."""


@dataclass(frozen=True)
class DiskRestore:
    """One disk: the layers it is read from, top first, and the file it is written to."""

    vm: str
    disk: str
    layers: tuple[Path, ...]
    target: Path

    @property
    def partial(self) -> Path:
        """The file it is written to until it is complete."""
        return self.target.with_name(self.target.name + PARTIAL_SUFFIX)


@dataclass(frozen=True)
class RestorePlan:
    """What a restore reads and writes."""

    point: str
    format: Format
    directory: Path
    disks: tuple[DiskRestore, ...]


def select_disks(point: Point, vm: str, disks: Sequence[str] | None) -> list[PointDisk]:
    """The disks of a VM at a point, all or those that are named.

    :raise VmUnknown: the point does not hold the VM
    :raise DiskUnknown: the point does not hold one of the disks
    """
    held = {disk.disk: disk for found in point.vms if found.vm == vm for disk in found.disks}
    if not held:
        raise VmUnknown(vm, f"point {point.id}")
    for disk in disks or ():
        if disk not in held:
            raise DiskUnknown(vm, disk, f"point {point.id}")
    return [held[disk] for disk in dict.fromkeys(disks or held)]


def chain_layers(chain: Sequence[DiskPoint], store: Path) -> tuple[Path, ...]:
    """The files of a chain, top first."""
    return tuple(store / link.layer for link in chain)


def plan_restore(
    point: Point,
    vm: str,
    chains: Mapping[str, Sequence[DiskPoint]],
    *,
    store: Path,
    directory: Path,
    format: Format,
) -> RestorePlan:
    """Plan to restore the disks in ``chains``, each into a file ``<directory>/<vm>/<disk>.<format>``."""
    directory /= vm
    disks = tuple(
        DiskRestore(vm, disk, chain_layers(chain, store), directory / f"{disk}.{format}")
        for disk, chain in chains.items()
    )
    return RestorePlan(point.id, format, directory, disks)


async def restore(
    plan: RestorePlan,
    *,
    force: bool,
    verify: bool,
    on_progress: OnProgress,
    recheck: Callable[[], None] = lambda: None,
) -> None:
    """Write every disk of the plan.

    :param force: replace files that exist, unless they are in use
    :param recheck: raises if the point was dropped before its layers could be held
    :param verify: read every file back and compare its content with the digests of the point
    :raise LayerDamaged: a layer is missing, or what it held has changed
    :raise DigestsInvalid: a digest table is missing or damaged, so nothing can be verified
    :raise TargetExists: a file is there already, and ``force`` is not given
    :raise TargetInUse: a process has the file open
    :raise TargetUnwritable: the directory cannot be made or written
    :raise TargetFull: the directory has too little room
    :raise CommandFailed: qemu-img failed
    """
    with layers_held(layer for disk in plan.disks for layer in disk.layers):
        recheck()
        for disk in plan.disks:
            check_layers(disk.layers)
            await check_target(disk.target, force=force)
        sizes = [await asyncio.to_thread(convert.measure, disk.layers) for disk in plan.disks]
        _make_directory(plan.directory)
        require_room(plan.directory, sum(sizes))
        try:
            for disk, size in zip(plan.disks, sizes, strict=True):
                await _write(disk, plan.format, size, on_progress)
                if verify:
                    await complete_in_thread(convert.verify, disk.layers, disk.partial, plan.format)
            _publish(plan, force=force)
        finally:
            durable.remove_files(disk.partial for disk in plan.disks)


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


async def check_target(target: Path, *, force: bool) -> None:
    """See that a file may be written.

    :raise TargetExists: it is there already, and ``force`` is not given
    :raise TargetInUse: a process has it open
    """
    if not await asyncio.to_thread(os.path.lexists, target):
        return
    if not force:
        raise TargetExists(str(target))
    try:
        # Opening it for writing takes QEMU's locks, even those against a reader of a backing file.
        await subprocesses.run(["qemu-io", "-f", "raw", "-c", "quit", str(target)], timeout_s=LOOK_TIMEOUT_S)
    except CommandFailed as error:
        if LOCKED in error.stderr:
            raise TargetInUse(str(target)) from None
        raise


def _make_directory(directory: Path) -> None:
    try:
        durable.make_directory(directory)
    except OSError as error:
        raise TargetUnwritable(str(directory), error.strerror or str(error)) from None
    if not directory.is_dir() or not os.access(directory, os.W_OK | os.X_OK):
        raise TargetUnwritable(str(directory), "it is no directory, or belongs to another user")


def require_room(directory: Path, need_bytes: int) -> None:
    """:raise TargetFull: the directory's file system has less room than that"""
    free = room.free_bytes(directory)
    if need_bytes > free:
        raise TargetFull(str(directory), need_bytes, free)


async def _write(disk: DiskRestore, format: Format, size: int, on_progress: OnProgress) -> None:
    async with in_background(_watch(disk, size, on_progress), name=f"progress of {disk.target}"):
        try:
            await complete_in_thread(convert.write, disk.layers, disk.partial, format)
        except OSError as error:
            raise TargetUnwritable(str(disk.target), error.strerror or str(error)) from None
    on_progress(disk, size, size)


async def _watch(disk: DiskRestore, size: int, on_progress: OnProgress) -> None:
    while True:
        with suppress(FileNotFoundError):
            on_progress(disk, min(size, disk.partial.stat().st_blocks * 512), size)
        await asyncio.sleep(PROGRESS_INTERVAL_S)


def _publish(plan: RestorePlan, *, force: bool) -> None:
    for disk in plan.disks:
        if force:
            disk.partial.replace(disk.target)
        else:
            _link(disk)
    durable.sync_directory(plan.directory)


def _link(disk: DiskRestore) -> None:
    # Unlike a rename, a link never replaces a file that came into being meanwhile.
    try:
        os.link(disk.partial, disk.target)
    except FileExistsError:
        raise TargetExists(str(disk.target)) from None
