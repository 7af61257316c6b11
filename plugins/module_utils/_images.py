# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Image files as files. For internal use of livebackup.qemu only."""

from __future__ import annotations

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)
_HERE = -100
_NOREPLACE = 1
QCOW2_MAGIC = b"QFI\xfb"


def sync(path: str) -> None:
    """fsync a file or directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename_to_free(source: str, path: str) -> None:
    """Rename, but never onto something that exists. Raises FileExistsError, OSError."""
    old, new = os.fsencode(source), os.fsencode(path)
    if _LIBC.renameat2(_HERE, old, _HERE, new, _NOREPLACE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)


def is_qcow2(path: str) -> bool:
    """Whether a file begins as a qcow2 image does."""
    with open(path, "rb") as file:
        return file.read(len(QCOW2_MAGIC)) == QCOW2_MAGIC
