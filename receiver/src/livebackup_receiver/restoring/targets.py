# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the files of a restore go: whether that can be, who else writes there, how they get their names."""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from livebackup_receiver import subprocesses
from livebackup_receiver.errors import (
    CommandFailed,
    TargetExists,
    TargetFull,
    TargetInUse,
    TargetUnwritable,
)
from livebackup_receiver.restore import DiskRestore
from livebackup_receiver.store import durable, room

LOOK_TIMEOUT_S = 120.0
LOCKED = 'Failed to get "write" lock'
OTHER_USER = "it belongs to another user"


async def check_target(target: Path, *, replace: bool) -> None:
    """See that a file may be written.

    :raise TargetExists: it is there already, and may not be replaced
    :raise TargetInUse: a process has it open
    :raise TargetUnwritable: it is another user's
    """
    if not await asyncio.to_thread(os.path.lexists, target):
        return
    if not replace or not await asyncio.to_thread(target.is_file):
        raise TargetExists(str(target))
    if not os.access(target, os.R_OK | os.W_OK):
        raise TargetUnwritable(str(target), OTHER_USER)
    try:
        # Opening it for writing takes QEMU's locks, even those against a reader of a backing file.
        await subprocesses.run(["qemu-io", "-f", "raw", "-c", "quit", str(target)], timeout_s=LOOK_TIMEOUT_S)
    except CommandFailed as error:
        if LOCKED in error.stderr:
            raise TargetInUse(str(target)) from None
        raise


@contextmanager
def made(directories: Sequence[Path]) -> Iterator[None]:
    """Directories are there; if the block fails, those that were made for it and are empty are gone again.

    :raise TargetUnwritable: one cannot be made or written
    """
    wanted = {each for directory in directories for each in (directory, *directory.parents)}
    new = [each for each in sorted(wanted, reverse=True) if not each.exists()]
    try:
        for directory in directories:
            _make(directory)
        yield
    except BaseException:
        for directory in new:
            with suppress(OSError):
                directory.rmdir()
        raise


def _make(directory: Path) -> None:
    try:
        durable.make_directory(directory)
    except OSError as error:
        raise TargetUnwritable(str(directory), error.strerror or str(error)) from None
    check_directory(directory)


def check_directory(directory: Path) -> None:
    """See that what there is of a directory can be looked into and written.

    :raise TargetUnwritable: it cannot
    """
    try:
        mode = directory.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise TargetUnwritable(str(directory), error.strerror or str(error)) from None
    if not stat.S_ISDIR(mode):
        raise TargetUnwritable(str(directory), "it is no directory")
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise TargetUnwritable(str(directory), OTHER_USER)


def require_room(needs: Mapping[Path, int]) -> None:
    """See that files fit.

    :param needs: for each directory the bytes that will be written there, beside what is there already
    :raise TargetFull: a file system has less room than that
    """
    by_device: dict[int, tuple[Path, int]] = {}
    for directory, need in needs.items():
        first, so_far = by_device.get(device := directory.stat().st_dev, (directory, 0))
        by_device[device] = first, so_far + need
    for directory, need in by_device.values():
        if need > (free := room.free_bytes(directory)):
            raise TargetFull(str(directory), need, free)


@contextmanager
def partial_of(disk: DiskRestore) -> Iterator[FileIO]:
    """The partial file, open, and nobody else's until the block ends.

    :raise TargetInUse: another restore writes to it
    :raise TargetUnwritable: it cannot be made
    """
    while True:
        try:
            file = FileIO(os.open(disk.partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+")
        except OSError as error:
            raise TargetUnwritable(str(disk.partial), error.strerror or str(error)) from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TargetInUse(str(disk.partial)) from None
            if not _is_named(file, disk.partial):
                # Whoever had it has just given it its name, or removed it.
                continue
            yield file
            return


def _is_named(file: FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def publish(disks: Sequence[DiskRestore], *, replace: bool) -> None:
    """Give complete and durable files their names.

    :raise TargetExists: a name is taken, and may not be replaced
    """
    for disk in disks:
        if replace:
            _take_over(disk)
            disk.partial.replace(disk.target)
        else:
            _link(disk)
    for directory in {disk.target.parent for disk in disks}:
        durable.sync_directory(directory)


def _take_over(disk: DiskRestore) -> None:
    """Let those read and write the new file who may the old one, such as the user that QEMU runs as."""
    try:
        old = disk.target.stat()
        disk.partial.chmod(stat.S_IMODE(old.st_mode))
        os.chown(disk.partial, old.st_uid, old.st_gid)
    except (FileNotFoundError, PermissionError):
        return


def _link(disk: DiskRestore) -> None:
    # Unlike a rename, a link never replaces a file that came into being meanwhile.
    try:
        os.link(disk.partial, disk.target)
    except FileExistsError:
        raise TargetExists(str(disk.target)) from None
