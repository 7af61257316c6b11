# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""All disks of a plan, several at once: every file gets its name, or none does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from livebackup_receiver import convert
from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.completion import complete_in_thread
from livebackup_receiver.restore import DiskRestore, OnProgress, RestorePlan, check_layers, layers_held
from livebackup_receiver.restoring import targets
from livebackup_receiver.restoring.delta import open_basis
from livebackup_receiver.restoring.disk import DiskWork, Judge, Stopped, write_disk
from livebackup_receiver.restoring.manner import Manner, Restored
from livebackup_receiver.restoring.partial import (
    FileFacts,
    PartialState,
    Start,
    decide,
    note,
    read_state,
)
from livebackup_receiver.store import durable


@dataclass(frozen=True)
class Prospect:
    """A disk as it is before anything is written."""

    disk: DiskRestore
    wanted: PartialState
    start: Start
    bytes: int


async def restore(
    plan: RestorePlan,
    manner: Manner,
    *,
    judge: Judge,
    on_progress: OnProgress,
    recheck: Callable[[], None] = lambda: None,
) -> list[Restored]:
    """Write every disk of the plan.

    If it is cancelled, and if the process is killed, the next run goes on where this one has come.

    :param recheck: raises if the point was dropped before its layers could be held
    :raise PointDamaged: what a layer holds has changed, and that is not accepted
    :raise LayerDamaged: a layer is missing, or is no sound image
    :raise DigestsInvalid: a digest table is missing or damaged, so nothing can be verified
    :raise BasisUnusable: an older copy is of another size or format
    :raise TargetExists: a file is there already, and may not be replaced
    :raise TargetInUse: a process has the file open, or another restore writes it
    :raise TargetUnwritable: a directory cannot be made or written
    :raise TargetFull: there is too little room
    :raise TargetFaulty: a file is not what was written to it
    :raise CommandFailed: qemu-img failed
    """
    with layers_held(layer for disk in plan.disks for layer in disk.layers):
        recheck()
        for disk in plan.disks:
            check_layers(disk.layers)
        for directory in plan.directories:
            targets.check_directory(directory)
        found = [await asyncio.to_thread(look, disk, plan, manner) for disk in plan.disks]
        for each in found:
            await targets.check_target(each.disk.target, replace=manner.replaces or each.start.published)
            await asyncio.to_thread(check_basis, each)
        with targets.made(plan.directories):
            targets.require_room(_needs(found))
            async with _works(plan, manner, found, judge, on_progress) as works:
                done = await _all(works, manner.jobs)
                await _publish(plan, manner, works)
    return done


def look(disk: DiskRestore, plan: RestorePlan, manner: Manner) -> Prospect:
    """What is there of a disk, and how much of it there will be.

    :raise LayerDamaged: a layer is no sound image
    """
    partial, target = (FileFacts.of(path) if path.is_file() else None for path in (disk.partial, disk.target))
    wanted = PartialState(
        point=plan.point,
        vm=disk.vm,
        disk=disk.disk,
        format=plan.format,
        layers=tuple(FileFacts.of(layer) for layer in disk.layers),
        basis=FileFacts.of(disk.target, changes=True) if manner.delta and target else None,
    )
    start = decide(read_state(disk.state), wanted, partial, target) if manner.verify else Start()
    return Prospect(disk, wanted, start, convert.measure(disk.layers))


def check_basis(found: Prospect) -> None:
    """See that an older copy is one.

    :raise BasisUnusable: it is of another size or format
    :raise DigestsInvalid: a digest table is missing or damaged
    """
    disk = found.disk
    if found.wanted.basis and not found.start.published:
        with open_basis(disk.target, found.wanted.format, convert.tables_of(disk.layers), pace=at_once):
            pass


def _needs(found: Sequence[Prospect]) -> dict[Path, int]:
    """The bytes that are still to be written in each directory; what is there of a partial file counts."""
    needs: dict[Path, int] = {}
    for each in found:
        there = each.disk.partial.stat().st_blocks * 512 if each.disk.partial.exists() else 0
        need = 0 if each.start.complete else max(0, each.bytes - there)
        directory = each.disk.target.parent
        needs[directory] = needs.get(directory, 0) + need
    return needs


@asynccontextmanager
async def _works(
    plan: RestorePlan, manner: Manner, found: Sequence[Prospect], judge: Judge, on_progress: OnProgress
) -> AsyncIterator[list[DiskWork]]:
    """The disks with their partial files, which nobody else writes to.

    If the block fails, files that no later run can go on with are removed.
    """
    with ExitStack() as stack:
        works = []
        stop = Event()
        bitmap = plan.point if plan.tracked else None
        try:
            for each in found:
                file = stack.enter_context(targets.partial_of(each.disk))
                works.append(
                    DiskWork(
                        each.disk,
                        plan.format,
                        manner,
                        file,
                        each.bytes,
                        each.wanted,
                        each.start,
                        bitmap,
                        judge,
                        on_progress,
                        stop,
                    )
                )
            yield works
        except asyncio.CancelledError:
            _remove(work.disk for work in works if not work.disk.state.exists())
            raise
        except Exception:
            _remove(work.disk for work in works)
            raise


async def _all(works: Sequence[DiskWork], jobs: int) -> list[Restored]:
    """Write all of them; if one fails or nobody waits any more, the others stop."""
    free = asyncio.Semaphore(jobs)

    async def write(work: DiskWork) -> Restored:
        async with free:
            return await complete_in_thread(write_disk, work)

    tasks = [asyncio.create_task(write(work), name=f"restore of {work.disk.target}") for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for work in works:
            work.stop.set()
        await asyncio.wait(tasks)
    errors = [error for task in tasks if (error := task.exception())]
    for error in sorted(errors, key=lambda each: isinstance(each, Stopped)):
        raise error
    return [task.result() for task in tasks]


async def _publish(plan: RestorePlan, manner: Manner, works: Sequence[DiskWork]) -> None:
    """Give all files their names; a run after one that was killed in the middle of this finishes it."""
    waiting = [work for work in works if not work.start.published]
    for work in waiting:
        if manner.verify:
            inode = os.fstat(work.file.fileno()).st_ino
            note(work.disk, work.wanted.model_copy(update={"complete": inode}))
    for work in waiting:
        await targets.check_target(work.disk.target, replace=manner.replaces)
    targets.publish([work.disk for work in waiting], replace=manner.replaces)
    _remove(work.disk for work in works)


def _remove(disks: Iterable[DiskRestore]) -> None:
    # In this order: a run after one that was killed here finds what it takes to finish.
    some = list(disks)
    durable.remove_files(disk.partial for disk in some)
    durable.remove_files(disk.state for disk in some)
