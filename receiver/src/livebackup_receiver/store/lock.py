# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One receiver per store: a second one would take the first one's layers in flight for leftovers."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from livebackup_receiver.errors import StoreBusy

LOCK_NAME = ".lock"


@contextmanager
def hold_store(root: Path) -> Iterator[None]:
    """Hold the store until the block ends; the kernel lets go if the process dies.

    :raise StoreBusy: another process holds it
    """
    with (root / LOCK_NAME).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreBusy(str(root)) from None
        yield
