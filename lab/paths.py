# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab keeps what it builds: all of it under `build/` of the checkout."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent
BUILD = CHECKOUT / "build"
LAB_BUILD = BUILD / "lab"
WHEELHOUSE = BUILD / "wheelhouse"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`, so that two programs do not build or boot the same thing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        while True:
            lock = stack.enter_context(path.open("a"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _is(path, lock.fileno()):  # its last holder may have removed the file
                break
        yield


def _is(path: Path, descriptor: int) -> bool:
    return path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino
