# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two calls of Linux that Python has no name for: making holes, and beginning to write back early."""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
from pathlib import Path

_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2
_SYNC_FILE_RANGE_WRITE = 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]


def punch(descriptor: int, offset: int, length: int) -> None:
    """Give a range of a file back to the file system; it reads as zeros from then on.

    :raise OSError: the file system cannot
    """
    mode = _FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE
    if _libc.fallocate(descriptor, mode, offset, length):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def begin_writing(descriptor: int, offset: int, length: int) -> None:
    """Have the kernel write a range soon, so that the fsync at the end finds little to do."""
    _libc.sync_file_range(descriptor, offset, length, _SYNC_FILE_RANGE_WRITE)


def punches(directory: Path) -> bool:
    """Whether files in this directory can have holes made into them.

    :raise OSError: nothing can be written there
    """
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(bytes([1]) * 8192)
        file.flush()
        try:
            punch(file.fileno(), 0, 4096)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            return False
    return True
