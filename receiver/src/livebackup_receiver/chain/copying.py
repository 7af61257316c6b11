# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How extents get from one file to another: shared if the file system can, else copied by the kernel."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from livebackup_receiver.chain.holes import begin_writing

# linux/fs.h
FICLONERANGE = 0x4020940D
_RANGE = struct.Struct("qQQQ")
BLOCK = 4096
COPY_BYTES = 8 << 20
WRITE_BACK_BYTES = 8 << 20
BUFFER_BYTES = 1 << 20
REFUSED = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS)

Pace = Callable[[int], None]
"""Told the bytes before they are copied; may wait, or raise to give way."""


def at_once(count: int) -> None:
    """The pace of whom nobody waits for."""


class ReadFailed(OSError):
    """It is the source of a copy that cannot be read, and not the target that cannot be written."""

    def __init__(self, error: OSError, descriptor: int) -> None:
        super().__init__(error.errno, error.strerror, os.readlink(f"/proc/self/fd/{descriptor}"))


@dataclass
class Copier:
    """Copies extents and counts what that moved; belongs to one thread.

    :param share: whether to ask for shared extents (reflink) first
    :param begin: what the target holds below this place is there already, and not copied again
    :param wrote: told the place up to which a copy has come
    :param forgiving: take zeros for what cannot be read
    """

    share: bool
    pace: Pace = at_once
    begin: int = 0
    wrote: Callable[[int], None] = at_once
    forgiving: bool = False
    copied_bytes: int = 0
    shared_bytes: int = 0
    kept_bytes: int = 0
    _unwritten: tuple[int, int] | None = None
    _buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(BUFFER_BYTES)), repr=False)

    def copy(self, source: int, offset: int, target: int, place: int, length: int) -> None:
        """Bring an extent to a place in another file; what is past the end of the source is left out.

        :param source: the descriptor that is read
        :param target: the descriptor that is written
        :raise ReadFailed: it cannot be read
        :raise OSError: it cannot be written
        """
        there = min(length, max(0, self.begin - place))
        self.kept_bytes += there
        offset, place, length = offset + there, place + there, length - there
        if self.share and length and self._shared(source, offset, target, place, length):
            self.wrote(place + length)
            return
        while length > 0:
            step = min(length, COPY_BYTES)
            self.pace(step)
            done = self._copy(source, offset, target, place, step)
            if not done:
                return
            self.copied_bytes += done
            self._write_back(target, place, done)
            self.wrote(place + done)
            offset, place, length = offset + done, place + done, length - done

    def _write_back(self, target: int, place: int, length: int) -> None:
        """Have what was copied written while the next is read, and not all of it at the end."""
        if self._unwritten is None or self._unwritten[1] != place:
            self._unwritten = (place, place)
        self._unwritten = (self._unwritten[0], place + length)
        start, end = self._unwritten
        if end - start >= WRITE_BACK_BYTES:
            begin_writing(target, start, end - start)
            self._unwritten = None

    def write(self, target: int, content: bytes, place: int) -> None:
        """Write bytes that come from no extent of their own; all of them.

        :raise OSError: they cannot be written
        """
        left = memoryview(content)
        # On a full disk the kernel writes a part without an error, and a later write may find room again.
        while left:
            done = os.pwrite(target, left, place)
            self.copied_bytes += done
            left, place = left[done:], place + done

    def _shared(self, source: int, offset: int, target: int, place: int, length: int) -> bool:
        if offset % BLOCK or place % BLOCK or length % BLOCK:
            return False
        try:
            fcntl.ioctl(target, FICLONERANGE, _RANGE.pack(source, offset, length, place))
        except OSError as error:
            # A source that ends within the extent is refused with EINVAL, as is what is not aligned.
            if error.errno not in REFUSED:
                raise
            return False
        self.shared_bytes += length
        return True

    def _copy(self, source: int, offset: int, target: int, place: int, length: int) -> int:
        try:
            return os.copy_file_range(source, target, length, offset, place)
        except OSError as error:
            # Of an I/O error nobody can say yet which of the files it is about.
            if error.errno not in (*REFUSED, errno.EIO):
                raise
        try:
            done = os.preadv(source, [self._buffer[:length]], offset)
        except OSError as error:
            if not self.forgiving:
                raise ReadFailed(error, source) from None
            done = self._salvage(source, offset, min(length, BUFFER_BYTES))
        return os.pwrite(target, self._buffer[:done], place) if done else 0

    def _salvage(self, source: int, offset: int, length: int) -> int:
        """Fill the buffer with what can be read, and with zeros for the rest."""
        self._buffer[:length] = bytes(length)
        for start in range(0, length, BLOCK):
            with suppress(OSError):
                os.preadv(source, [self._buffer[start : min(start + BLOCK, length)]], offset + start)
        return length


def shares(directory: Path) -> bool:
    """Whether files in this directory can share extents.

    :raise OSError: nothing can be written there
    """
    with (
        tempfile.TemporaryFile(dir=directory) as source,
        tempfile.TemporaryFile(dir=directory) as target,
    ):
        source.write(bytes([1]) * BLOCK)
        source.flush()
        try:
            fcntl.ioctl(target, FICLONERANGE, _RANGE.pack(source.fileno(), 0, BLOCK, 0))
        except OSError as error:
            if error.errno not in REFUSED:
                raise
            return False
    return True
