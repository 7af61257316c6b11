# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file that an image is restored into until it is complete. For internal use of livebackup.qemu only.

It outlives a run that fails or is killed, and the next run goes on with it, whatever is in it: see _copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _process
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    FileInUse,
    ProgramFailed,
    RestoreError,
)

SUFFIX = ".livebackup-partial"
# a storage daemon whose module was killed takes a moment to leave
_LOCKED_SECONDS = 30.0
_POLL_SECONDS = 0.2


def path_for(path: str) -> str:
    """Where the image for ``path`` is written before it gets its name."""
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}{SUFFIX}")


@contextlib.contextmanager
def held(path: str) -> Iterator[int]:
    """Its descriptor, made if there is none; no other restore can have it. Raises FileInUse, RestoreError."""
    try:
        descriptor = _locked(path)
    except BlockingIOError as error:
        raise FileInUse(
            f"Another restore is writing {path}; wait for its end, then repeat the task.", path=path
        ) from error
    except OSError as error:
        raise RestoreError(
            f"The file {path} cannot be made: {error.strerror}; check its directory.", path=path
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(path: str) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(descriptor)
            # the one who held it may have given it its final name, and then it is not ours to write to
            if status.st_nlink == 1 and os.path.samestat(status, os.stat(path)):
                return descriptor
            if status.st_nlink > 1:
                os.unlink(path)
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def prepare_raw(descriptor: int, size: int) -> bool:
    """Make it a raw image of ``size`` bytes; return whether it was one already that holds something."""
    status = os.fstat(descriptor)
    if status.st_size == size:
        return status.st_blocks > 0
    os.ftruncate(descriptor, 0)
    os.ftruncate(descriptor, size)
    return False


async def prepare_qcow2(path: str, size: int) -> bool:
    """As ``prepare_raw``, for qcow2. Raises ProgramFailed, FileInUse."""
    if os.path.getsize(path) and await _is_usable(path, size):
        return True
    await _process.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=1.1", path, str(size)])
    return False


async def _is_usable(path: str, size: int) -> bool:
    deadline = time.monotonic() + _LOCKED_SECONDS
    while True:
        try:
            found = await _process.run(["qemu-img", "info", "--output=json", "-f", "qcow2", path])
            # leaks are what a writer that was killed leaves; anything worse is not repaired
            await _process.run(["qemu-img", "check", "-q", "-f", "qcow2", "-r", "leaks", path])
            return fits(json.loads(found), size)
        except ProgramFailed as error:
            if "lock" not in error.facts["reason"]:
                return False
            if time.monotonic() > deadline:
                raise FileInUse(
                    f"The file {path} is in use by another process; end it, then repeat the task.", path=path
                ) from error
        await asyncio.sleep(_POLL_SECONDS)


def fits(info: dict[str, Any], size: int) -> bool:
    """Whether an image (``qemu-img info``) is one that we have begun. Pure."""
    return info["virtual-size"] == size and "backing-filename" not in info
