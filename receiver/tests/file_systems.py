# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""File systems that are as small as a test needs them; making one takes root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# mkfs.xfs makes none that is smaller than 300 MiB.
XFS_BYTES = 320 << 20


@contextmanager
def sharing_file_system(folder: Path) -> Iterator[Path]:
    """A new XFS, whose files can share extents, until the block ends; the directory where it is mounted."""
    image, mount = folder / "xfs.image", folder / "xfs"
    mount.mkdir()
    image.touch()
    os.truncate(image, XFS_BYTES)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(mount)], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=True)


def free_bytes(folder: Path) -> int:
    """What is free when all that was written is on the disk."""
    os.sync()
    status = os.statvfs(folder)
    return status.f_bfree * status.f_frsize


@contextmanager
def small_file_system(path: Path, size: str) -> Iterator[None]:
    """A file system of its own at a directory until the block ends."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
