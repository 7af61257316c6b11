# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A block device that logs every write and flush, so that a power cut at any of them can be played back.

QEMU's ``blklogwrites`` writes the log in the format of Linux's dm-log-writes; a FUSE export and a loop
device make a disk of it that any file system can be on. Takes root.
"""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SUPER = struct.Struct("<QQQI")
ENTRY = struct.Struct("<QQQQ")
FLUSH, FUA, DISCARD = 1, 2, 4
LOG_BYTES = 2 << 30
# How large each kind of file system is, and how it is made.
MAKERS = {
    "ext4": (128 << 20, ["mkfs.ext4", "-q", "-E", "nodiscard"]),
    # as small as mkfs.xfs makes one
    "xfs": (320 << 20, ["mkfs.xfs", "-q", "-K", "-m", "reflink=1"]),
}


@dataclass(frozen=True)
class Logged:
    """One entry: where in the device, where in the log."""

    offset: int
    length: int
    flags: int
    place: int


@dataclass
class LoggedDevice:
    """The device while it is mounted, and its log afterwards."""

    folder: Path
    size: int
    mount: Path
    _entries: list[Logged] = field(default_factory=list)
    _end: int = 0

    def entries(self) -> list[Logged]:
        """Everything that has been logged so far."""
        with (self.folder / "log").open("rb") as log:
            sector = SUPER.unpack(log.read(SUPER.size))[3] or 512
            self._end = self._end or sector
            while True:
                log.seek(self._end)
                number, count, flags, dummy = ENTRY.unpack(log.read(ENTRY.size))
                if not count and not flags:
                    return self._entries
                place = self._end + sector
                self._entries.append(Logged(number * sector, count * sector, flags, place))
                self._end = place + (0 if flags & DISCARD else count * sector)

    def after_cut(self, image: Path, number: int, chance: random.Random) -> None:
        """Write the disk as a power cut after so many entries may leave it.

        What was flushed is there. Of the rest each write may be, or not: a disk may write in any order.
        """
        entries = self.entries()[:number]
        flushed = max((at for at, each in enumerate(entries) if each.flags & (FLUSH | FUA)), default=-1)
        likely = chance.choice((0.1, 0.5, 0.9))
        with (self.folder / "log").open("rb") as log, image.open("wb") as disk:
            disk.truncate(self.size)
            for at, each in enumerate(entries):
                if at <= flushed or chance.random() < likely:
                    disk.seek(each.offset)
                    log.seek(each.place)
                    disk.write(bytes(each.length) if each.flags & DISCARD else log.read(each.length))


@contextmanager
def logged_device(folder: Path, kind: str) -> Iterator[LoggedDevice]:
    """A new file system on a logged device, mounted until the block ends; ``kind`` is one of ``MAKERS``."""
    size, make = MAKERS[kind]
    base, log, export, mount = (folder / name for name in ("base", "log", "export", "mount"))
    for path, length in ((base, size), (log, LOG_BYTES), (export, 0)):
        path.touch()
        os.truncate(path, length)
    mount.mkdir()
    with ExitStack() as stack:
        stack.enter_context(_storage_daemon(base, log, export, size))
        loop = stack.enter_context(_loop(export))
        subprocess.run([*make, loop], check=True)
        stack.enter_context(mounted(Path(loop), mount))
        yield LoggedDevice(folder, size, mount)


@contextmanager
def mounted(device: Path, mount: Path) -> Iterator[None]:
    """A file system of a device or an image; its journal is played back first."""
    options = ["--options", "loop"] if device.is_file() else []
    subprocess.run(["mount", *options, str(device), str(mount)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(mount)], check=True)


@contextmanager
def _storage_daemon(base: Path, log: Path, export: Path, size: int) -> Iterator[None]:
    argv = [
        "qemu-storage-daemon",
        "--blockdev", f"file,node-name=base,filename={base}",
        "--blockdev", f"file,node-name=log,filename={log}",
        "--blockdev", "blklogwrites,node-name=logged,file=base,log=log,log-sector-size=512",
        "--export", f"fuse,id=disk,node-name=logged,mountpoint={export},writable=on,allow-other=off",
    ]  # fmt: skip
    daemon = subprocess.Popen(argv)
    try:
        _wait_for(export, size)
        yield
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(30)


def _wait_for(export: Path, size: int) -> None:
    for dummy in range(500):
        if export.stat().st_size == size:
            return
        time.sleep(0.02)
    raise TimeoutError(f"{export} is not served")


@contextmanager
def _loop(file: Path) -> Iterator[str]:
    argv = ["losetup", "--find", "--show", str(file)]
    loop = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield loop
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)
