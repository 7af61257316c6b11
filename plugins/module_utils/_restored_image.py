# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Image files that a restore reads from and writes to. For internal use of livebackup.qemu only.

Raw files are read and written directly. For qcow2 a storage daemon of ours holds the image, and serves it
over a UNIX socket that nobody else can reach. Both are used by several threads, each with its own way in.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from ansible_collections.livebackup.qemu.plugins.module_utils import _nbd
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import LivebackupError, RestoreError
from ansible_collections.livebackup.qemu.plugins.module_utils._nbd import CLUSTER_BYTES, Stopped
from ansible_collections.livebackup.qemu.plugins.module_utils._runs import Run

_LIBC = ctypes.CDLL(None, use_errno=True)
_KEEP_SIZE, _PUNCH_HOLE = 1, 2


class Access(Protocol):
    """A thread's way into an image or an export."""

    def read(self, runs: Iterator[Run]) -> Iterator[tuple[Run, memoryview]]:
        """The data of runs of clusters, in their order, as far as the image goes."""

    def write(self, offset: int, data: memoryview) -> None:
        """Write."""

    def zero(self, offset: int, count: int) -> None:
        """Make zeros that take no room."""

    def data(self) -> list[Run]:
        """The runs of clusters in which there may be anything but zeros."""


class Image(Protocol):
    """An image; ``stop`` ends what is going on in all threads."""

    def opened(self, stop: threading.Event) -> contextlib.AbstractContextManager[Access]:
        """A way in, for one thread."""


@dataclass(frozen=True)
class ServedImage:
    """An image that a storage daemon serves as ``export`` on a UNIX socket; ``path`` is the file."""

    path: str
    socket: str
    export: str

    @contextlib.contextmanager
    def opened(self, stop: threading.Event) -> Iterator[Access]:
        """See Image."""
        with _nbd.local(self.socket, self.export, stop=stop, explain=self._explain) as connection:
            yield connection

    def _explain(self, reason: str, dummy: bool) -> LivebackupError:
        return failure(self.path, reason)


@dataclass(frozen=True)
class RawFile:
    """A raw image by an open descriptor; ``size`` in bytes."""

    path: str
    descriptor: int
    size: int

    @contextlib.contextmanager
    def opened(self, stop: threading.Event) -> Iterator[Access]:
        """See Image."""
        yield RawAccess(self, stop)


class RawAccess:
    """A raw file for one thread."""

    def __init__(self, file: RawFile, stop: threading.Event) -> None:
        self._file = file
        self._stop = stop

    def read(self, runs: Iterator[Run]) -> Iterator[tuple[Run, memoryview]]:
        """See Access."""
        for first, count in runs:
            if self._stop.is_set():
                raise Stopped
            offset = first * CLUSTER_BYTES
            data = bytearray(min(count * CLUSTER_BYTES, self._file.size - offset))
            with _told(self._file.path):
                done = os.preadv(self._file.descriptor, [data], offset)
            if done < len(data):
                raise failure(self._file.path, "it was made shorter meanwhile")
            yield (first, count), memoryview(data)

    def write(self, offset: int, data: memoryview) -> None:
        """See Access."""
        if self._stop.is_set():
            raise Stopped
        with _told(self._file.path):
            while data:
                done = os.pwrite(self._file.descriptor, data, offset)
                offset, data = offset + done, data[done:]

    def zero(self, offset: int, count: int) -> None:
        """See Access."""
        arguments = map(ctypes.c_int64, (offset, count))
        if _LIBC.fallocate(self._file.descriptor, _KEEP_SIZE | _PUNCH_HOLE, *arguments) == 0:
            return
        if ctypes.get_errno() not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise failure(self._file.path, os.strerror(ctypes.get_errno()))
        zeros = memoryview(bytes(16 * CLUSTER_BYTES))
        for start in range(offset, offset + count, len(zeros)):
            self.write(start, zeros[: offset + count - start])

    def data(self) -> list[Run]:
        """See Access."""
        found: list[Run] = []
        at = 0
        with _told(self._file.path):
            while at < self._file.size:
                try:
                    start = os.lseek(self._file.descriptor, at, os.SEEK_DATA)
                except OSError as error:
                    if error.errno == errno.ENXIO:
                        break
                    raise
                at = min(self._file.size, os.lseek(self._file.descriptor, start, os.SEEK_HOLE))
                first = start // CLUSTER_BYTES
                found.append((first, -(-at // CLUSTER_BYTES) - first))
        return found


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise failure(path, error.strerror or str(error)) from error


def failure(path: str, reason: str, **facts: Any) -> RestoreError:
    """An image that cannot be written or read."""
    return RestoreError(
        f"The file {path} cannot be written: {reason}; see to its file system and repeat the task, which "
        "goes on where it ended.",
        path=path,
        reason=reason,
        **facts,
    )
