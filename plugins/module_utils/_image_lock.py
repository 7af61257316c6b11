# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""QEMU's locks on image files, looked at and taken without QEMU. For internal use of livebackup.qemu only.

QEMU (block/file-posix.c) locks one byte for each permission: from 100 on what it needs, from 200 on what it
lets nobody else have. A file that we are about to replace must not be opened for writing meanwhile, or the
VM would go on with a disk that has no name any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
from collections.abc import Iterator

from ansible_collections.livebackup.qemu.plugins.module_utils._errors import FileInUse, RestoreError

# linux/fcntl.h: F_OFD_GETLK, F_OFD_SETLK
_GET, _SET = 36, 37
_FLOCK = struct.Struct("hhqqi4x")
_NEEDED, _REFUSED = 100, 200
_PERMISSIONS = 8
# write, write without a change, resize: all but reading
_WRITING = range(1, 4)


@contextlib.contextmanager
def claimed(path: str) -> Iterator[None]:
    """Nobody uses an image, and nobody can begin to write to it while the block runs.

    Raises FileInUse if it is open, for writing or reading; RestoreError if it is no file.
    """
    descriptor = _opened(path)
    try:
        refuse_in_use(descriptor, path)
        for permission in _WRITING:
            with contextlib.suppress(OSError):  # a file system without locks
                _lock(descriptor, _SET, fcntl.F_RDLCK, _REFUSED + permission, 1)
        refuse_in_use(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _opened(path: str) -> int:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise RestoreError(
                f"{path} is no file, and only files are restored to; give the path of a file.", path=path
            )
        return os.open(path, os.O_RDWR)
    except OSError as error:
        raise RestoreError(
            f"The file {path} cannot be opened: {error.strerror}; check its owner and its directory.",
            path=path,
        ) from error


def refuse_in_use(descriptor: int, path: str) -> None:
    """Raise FileInUse if any process has the image open."""
    try:
        found = _lock(descriptor, _GET, fcntl.F_WRLCK, _NEEDED, _PERMISSIONS)
    except OSError:
        return  # a file system without locks
    if found != fcntl.F_UNLCK:
        raise FileInUse(
            f"The file {path} is in use by another process, perhaps a running VM, so it is not replaced, not "
            "even with force; shut the VM down or restore to another place.",
            path=path,
        )


def _lock(descriptor: int, command: int, kind: int, start: int, count: int) -> int:
    answer = fcntl.fcntl(descriptor, command, _FLOCK.pack(kind, os.SEEK_SET, start, count, 0))
    found: int = _FLOCK.unpack(answer)[0]
    return found
