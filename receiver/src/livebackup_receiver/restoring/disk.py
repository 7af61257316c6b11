# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One disk of a restore, from its layers to a file that is complete, compared and durable, but for a name."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from threading import Event

from livebackup_receiver import convert
from livebackup_receiver.chain.copying import Copier, ReadFailed
from livebackup_receiver.convert import Format
from livebackup_receiver.errors import (
    LayerDamaged,
    PointDamaged,
    ReceiverError,
    TargetFaulty,
    TargetFull,
    TargetUnwritable,
)
from livebackup_receiver.restore import DiskRestore, OnProgress, Stage
from livebackup_receiver.restoring.delta import Basis, open_basis
from livebackup_receiver.restoring.follower import Follower, following
from livebackup_receiver.restoring.manner import Manner, Restored
from livebackup_receiver.restoring.partial import Keeper, PartialState, Start
from livebackup_receiver.restoring.readback import damage_read_back
from livebackup_receiver.restoring.tracking import add_bitmaps, end_bitmap, remove_checkpoint
from livebackup_receiver.store import durable, room
from livebackup_receiver.store.digests import Table
from livebackup_receiver.store.ranges import Range, words

TELL_BYTES = 1 << 20

Judge = Callable[[DiskRestore, Mapping[str, Sequence[Range]]], PointDamaged]
"""Makes a refusal of what is damaged of a disk, by the points of the layers that hold it."""


class Stopped(Exception):
    """Another disk has failed, or whoever waited does not any more."""


@dataclass
class DiskWork:
    """What is needed to write one disk; belongs to one thread.

    :param file: the partial file, held
    :param bytes: that the disk's data take
    :param bitmap: the point whose bitmap the file gets
    """

    disk: DiskRestore
    format: Format
    manner: Manner
    file: FileIO
    bytes: int
    wanted: PartialState
    start: Start
    bitmap: str | None
    judge: Judge
    on_progress: OnProgress
    stop: Event
    _told: tuple[Stage | None, int] = (None, 0)

    @property
    def written(self) -> Path:
        """The file under the name that it has now."""
        return self.disk.target if self.start.published else self.disk.partial

    def tell(self, stage: Stage, done: int) -> None:
        """So many bytes are done; there may be a cluster at a time."""
        if stage is not self._told[0] or not 0 <= done - self._told[1] < TELL_BYTES:
            self._told = stage, done
            self.on_progress(self.disk, stage, min(done, self.bytes), self.bytes)

    def go_on(self) -> None:
        """:raise Stopped: nobody wants that any more"""
        if self.stop.is_set():
            raise Stopped


def write_disk(work: DiskWork) -> Restored:
    """Write a disk into its partial file, or what of it is missing there.

    :raise PointDamaged: what a layer holds has changed, and that is not accepted
    :raise LayerDamaged: a layer cannot be read
    :raise DigestsInvalid: a digest table is missing or damaged, so nothing can be verified
    :raise TargetFaulty: the file is not what was written to it
    :raise TargetUnwritable: the file cannot be written
    :raise TargetFull: there is no room for it any more
    :raise CommandFailed: qemu-img failed
    :raise Stopped: ``work.stop`` was set
    """
    try:
        return _write_disk(work)
    except LayerDamaged as error:
        raise _located(work, error) from None
    except ReadFailed as error:
        raise LayerDamaged(str(error.filename), f"it cannot be read: {error.strerror}") from None
    except OSError as error:
        raise _unwritable(work, error) from None


def _write_disk(work: DiskWork) -> Restored:
    work.go_on()
    tables = convert.tables_of(work.disk.layers) if work.manner.verify else []
    done, damaged = _written_and_compared(work, tables)
    if not damaged:
        return done
    lost = convert.damage_in_store(work.disk.layers, tables, damaged)
    if lost == damaged:
        return _without(work, done, tables, lost)
    if (work.start != Start() or work.wanted.basis) and not work.start.published:
        # What an earlier run or somebody else has written is not what it should be: without that, then.
        anew = work.wanted.model_copy(update={"basis": None})
        return _write_disk(replace(work, start=Start(), wanted=anew))
    raise TargetFaulty(str(work.written), f"bytes {words(damaged)} of the disk")


def _written_and_compared(work: DiskWork, tables: Sequence[Table]) -> tuple[Restored, list[Range]]:
    """The file, durable, and where it is not what the digests say, which is looked at only if asked for."""
    with ExitStack() as stack:
        reads_back = work.manner.verify and not work.start.complete
        follower = stack.enter_context(following(work.file.fileno())) if reads_back else None
        done = _written(work, tables, follower)
        if work.manner.verify:
            return done, _synced_and_compared(work, tables, follower)
        os.fsync(work.file.fileno())
        return done, []


def _without(work: DiskWork, done: Restored, tables: Sequence[Table], lost: list[Range]) -> Restored:
    """The result without what is damaged in the store.

    :raise PointDamaged: that is not accepted
    """
    if not work.manner.accept_damage:
        raise _judged(work, tables, lost)
    if work.bitmap and not work.start.complete:
        # The next backup must not take for granted what is not there.
        remove_checkpoint(work.written, work.bitmap)
        durable.sync_file(work.written)
    return replace(done, lost=lost, tracked=False)


def _judged(work: DiskWork, tables: Sequence[Table], lost: Sequence[Range]) -> PointDamaged:
    by_layer = convert.by_holder(work.disk.layers, tables, lost)
    return work.judge(work.disk, {layer.stem: ranges for layer, ranges in by_layer.items()})


def _located(work: DiskWork, error: LayerDamaged) -> ReceiverError:
    """Where on the disk the damage of a layer is seen, if it is in some clusters only."""
    if error.path == str(work.written):
        return TargetFaulty(error.path, f"because {error.problem}")
    if not work.manner.verify:
        return error
    try:
        tables = convert.tables_of(work.disk.layers)
        lost = convert.damage_in_store(work.disk.layers, tables, [(0, work.disk.virtual_size)])
    except LayerDamaged:
        return error
    return _judged(work, tables, lost) if lost else error


def _unwritable(work: DiskWork, error: OSError) -> ReceiverError:
    directory = work.disk.target.parent
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TargetFull(str(directory), work.bytes, room.free_bytes(directory))
    return TargetUnwritable(str(work.disk.target), error.strerror or str(error))


def _written(work: DiskWork, tables: Sequence[Table], follower: Follower | None) -> Restored:
    if work.start.complete:
        return Restored(work.disk, 0, resumed_bytes=work.bytes, tracked=work.bitmap is not None)
    if not work.start.begin:
        # It would vouch for what is about to be overwritten.
        durable.remove_files([work.disk.state])
    with ExitStack() as stack:
        end = stack.enter_context(end_bitmap(work.disk.virtual_size)) if work.bitmap else None
        basis = stack.enter_context(_basis(work, tables)) if work.wanted.basis else None
        with Keeper(work.disk, work.file.fileno(), work.wanted) as keeper:
            copier = _copier(work, keeper, follower)
            layers, partial = work.disk.layers, work.disk.partial
            ours = convert.fill(layers, work.file, partial, work.format, copier=copier, basis=basis)
            if follower:
                follower.useful = ours
        work.on_progress(work.disk, Stage.WRITING, work.bytes, work.bytes)
        if work.bitmap and end:
            add_bitmaps(work.disk.partial, work.bitmap, end.result())
    moved = basis.moved_bytes if basis else work.bytes - copier.kept_bytes
    taken = basis.taken_bytes if basis else 0
    return Restored(work.disk, moved, taken, copier.kept_bytes, tracked=work.bitmap is not None)


def _basis(work: DiskWork, tables: Sequence[Table]) -> AbstractContextManager[Basis]:
    seen = 0

    def compare(count: int) -> None:
        nonlocal seen
        work.go_on()
        seen += count
        work.tell(Stage.COMPARING, seen)

    return open_basis(work.disk.target, work.format, tables, pace=compare)


def _copier(work: DiskWork, keeper: Keeper, follower: Follower | None) -> Copier:
    def wrote(place: int) -> None:
        if follower:
            keeper.reached(place)
            follower.reached(place)
        done = copier.copied_bytes + copier.shared_bytes + copier.kept_bytes
        work.tell(Stage.WRITING, done)

    copier = Copier(
        share=True,
        pace=lambda count: work.go_on(),
        begin=work.start.begin,
        wrote=wrote,
        forgiving=work.manner.accept_damage,
    )
    return copier


def _synced_and_compared(work: DiskWork, tables: Sequence[Table], follower: Follower | None) -> list[Range]:
    """Compare the file with the digests of the point while it is brought to the disk; where it differs.

    What is read is what the kernel writes meanwhile, as nothing else has it open.
    """
    seen = 0

    def read(count: int) -> None:
        nonlocal seen
        work.go_on()
        seen += count
        work.tell(Stage.VERIFYING, seen)

    with ThreadPoolExecutor(1) as pool:
        synced = pool.submit(os.fsync, work.file.fileno())
        if follower and follower.useful:
            follower.finish(read)
            damaged = damage_read_back(follower, work.written, work.format, tables, pace=read)
        else:
            damaged = convert.damage_in(work.written, work.format, tables, pace=read)
        synced.result()
    work.on_progress(work.disk, Stage.VERIFYING, work.bytes, work.bytes)
    return damaged
