# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a killed run has left: ``<file>.partial``, and beside it what is known of it.

``<file>.partial.json`` vouches for everything in the partial file below ``watermark``, and is written after
that is on the disk. The same layers always give the same file, from its beginning to its end, so another run
goes on from there. Whatever it says, the whole file is compared with the digests of the point before it gets
its name.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from livebackup_receiver.convert import Format
from livebackup_receiver.restore import DiskRestore
from livebackup_receiver.store import durable

# Half a second of work for a fast disk, a few for a slow one.
KEEP_BYTES = 128 << 20


class FileFacts(BaseModel):
    """By which a file is known again."""

    model_config = ConfigDict(frozen=True)

    name: str
    inode: int
    size: int
    changed_ns: int = 0

    @classmethod
    def of(cls, path: Path, *, changes: bool = False) -> FileFacts:
        """:param changes: whether the time of its last change counts, as for a file that others write to"""
        found = path.stat()
        return cls(
            name=path.name,
            inode=found.st_ino,
            size=found.st_size,
            changed_ns=found.st_mtime_ns if changes else 0,
        )


class PartialState(BaseModel):
    """What is known of a partial file.

    :param layers: top first
    :param basis: the older copy that parts are taken from
    :param complete: the inode of the file, which has all of the disk and was compared with its digests
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    point: str
    vm: str
    disk: str
    format: Format
    layers: tuple[FileFacts, ...]
    basis: FileFacts | None = None
    watermark: int = 0
    complete: int | None = None


@dataclass(frozen=True)
class Start:
    """Where a run begins with a disk.

    :param begin: the place in the partial file from which on it is written
    :param complete: it is complete, and only has to be compared
    :param published: it even has its name
    """

    begin: int = 0
    complete: bool = False
    published: bool = False


def read_state(path: Path) -> PartialState | None:
    """What is said of a partial file; None if there is nothing to be relied on."""
    try:
        return PartialState.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def decide(
    found: PartialState | None, wanted: PartialState, partial: FileFacts | None, target: FileFacts | None
) -> Start:
    """Where to begin; pure.

    :param found: what an earlier run has left
    :param wanted: what this one makes
    :param partial: the partial file, if there is one
    :param target: the file that has the name already, if there is one
    """
    if found is None:
        return Start()
    if found.complete is not None:
        mine = found.model_copy(update={"basis": None}) == wanted.model_copy(
            update={"basis": None, "watermark": found.watermark, "complete": found.complete}
        )
        published = target is not None and target.inode == found.complete
        there = partial is not None and partial.inode == found.complete
        return Start(0, mine and (published or there), mine and published)
    same = found == wanted.model_copy(update={"watermark": found.watermark})
    if not same or partial is None or partial.size < found.watermark:
        return Start()
    return Start(found.watermark)


@dataclass
class Keeper:
    """Brings what is written of a partial file to the disk meanwhile, and notes how far that is."""

    disk: DiskRestore
    descriptor: int
    state: PartialState
    every: int = field(default_factory=lambda: KEEP_BYTES)
    _reached: int = 0
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    _running: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Whatever ends the writing, what there is may be kept."""
        self._pool.shutdown()
        if kind is not None and self._reached > self.state.watermark:
            with suppress(OSError):
                self._keep(self._reached)

    def reached(self, place: int) -> None:
        """The file is written up to this place.

        :raise OSError: what was written before did not get to the disk
        """
        self._reached = max(self._reached, place)
        if self._reached - self.state.watermark < self.every:
            return
        if self._running is not None:
            if not self._running.done():
                return
            self._running.result()
        self._running = self._pool.submit(self._keep, self._reached)

    def _keep(self, place: int) -> None:
        os.fdatasync(self.descriptor)
        self.state = self.state.model_copy(update={"watermark": place})
        note(self.disk, self.state)


def note(disk: DiskRestore, state: PartialState) -> None:
    """Write down, durably, what is known of a partial file."""
    durable.write_file(disk.state, state.model_dump_json(indent=2).encode())
