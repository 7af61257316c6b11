# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One receiver per store: a second one would take the first one's layers in flight for leftovers."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from livebackup_receiver.errors import StoreBusy, StoreFailed
from livebackup_receiver.store.format import check_format
from livebackup_receiver.store.paths import Store

LOCK_NAME = ".lock"


@contextmanager
def hold_store(root: Path) -> Iterator[None]:
    """Hold the store until the block ends; the kernel lets go if the process dies.

    :raise StoreBusy: another process holds it
    :raise StoreUnsupported: it is of a newer format
    :raise StoreFailed: it is not there, or cannot be written
    """
    with _open(root) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreBusy(str(root)) from None
        check_format(Store(root))
        yield


def _open(root: Path) -> TextIO:
    try:
        return (root / LOCK_NAME).open("w")
    except OSError as error:
        raise StoreFailed(str(root), error.strerror or str(error)) from None
