# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Readers of a chain and those who change it, kept apart by flock(2), in one process or in several.

Whoever opens a chain by name holds its directory shared while doing so, because names are changed together.
Whoever reads layers holds each file shared for as long: nothing in it is freed then. A QEMU that somebody
else has started on a layer holds QEMU's own locks, which are looked for, too.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from livebackup_receiver.errors import LayerDamaged

QEMU_LOCKS = range(100, 108)
# struct flock of fcntl(2), with 64-bit offsets
_FLOCK = struct.Struct("hhqqi4x")


@contextmanager
def opening(directories: Iterable[Path]) -> Iterator[None]:
    """Names of layers in these directories stay as they are while the block runs."""
    with ExitStack() as stack:
        for directory in sorted(set(directories)):
            stack.enter_context(_locked(directory, fcntl.LOCK_SH))
        yield


@contextmanager
def reading(layers: Iterable[Path]) -> Iterator[None]:
    """No hole is made into these layers while the block runs; take it within ``opening``.

    :raise LayerDamaged: one is missing
    """
    with ExitStack() as stack:
        for layer in layers:
            try:
                stack.enter_context(_locked(layer, fcntl.LOCK_SH))
            except FileNotFoundError:
                raise LayerDamaged(str(layer), "it is missing") from None
        yield


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Whether nobody opens layers in this directory, or reads this layer; then nobody begins to, either."""
    with ExitStack() as stack:
        try:
            stack.enter_context(_locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield path.is_dir() or not is_open_in_qemu(path)


def is_open_in_qemu(layer: Path) -> bool:
    """Whether a QEMU program has a layer open, if only for reading."""
    # block/file-posix.c: one byte from 100 on for each permission, locked by whoever needs it.
    wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, QEMU_LOCKS.start, len(QEMU_LOCKS), 0)
    with layer.open("r+b") as file:
        found = fcntl.fcntl(file, fcntl.F_OFD_GETLK, wanted)
    return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)


@contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)
