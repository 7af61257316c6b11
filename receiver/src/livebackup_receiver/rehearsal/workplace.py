# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The private directory of a rehearsal that runs: ``<store>/rehearsals/running/<id>``.

Whoever works in it holds a lock, which the kernel takes away if it is killed. No process is left behind,
for all die with it; what lies in directories that nobody holds is removed by whoever comes next.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from livebackup_receiver.store import durable
from livebackup_receiver.store.paths import Store

log = logging.getLogger(__name__)

LOCK = "lock"


@contextmanager
def workplace(store: Store, rehearsal: str) -> Iterator[Path]:
    """A new directory that is removed with the block.

    :raise OSError: it cannot be made
    """
    durable.make_directory(store.rehearsing)
    path = store.rehearsing / rehearsal
    with ExitStack() as stack:
        with _turn(store):
            path.mkdir(mode=0o700)
            stack.callback(shutil.rmtree, path, ignore_errors=True)
            lock = stack.enter_context((path / LOCK).open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield path


def sweep(store: Store) -> None:
    """Remove what killed rehearsals have left."""
    if not store.rehearsing.is_dir():
        return
    with _turn(store):
        for path in sorted(store.rehearsing.iterdir()):
            if not _is_held(path):
                shutil.rmtree(path, ignore_errors=True)
                log.info("removed %s, which a rehearsal that was killed has left", path)


@contextmanager
def _turn(store: Store) -> Iterator[None]:
    """Nobody else makes or removes private directories meanwhile."""
    descriptor = os.open(store.rehearsing, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_held(path: Path) -> bool:
    try:
        with (path / LOCK).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
