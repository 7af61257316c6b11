# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""File systems of their own on loop devices: one that shares extents, and one that does not."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAKERS = {
    "xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"],
    "ext4": ["mkfs.ext4", "-q", "-E", "lazy_itable_init=0"],
}


@contextmanager
def file_system(kind: str, size: str) -> Iterator[Path]:
    """A mounted file system until the block ends; takes root."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=build) as name:
        image, mount = Path(name, "image"), Path(name, "mount")
        mount.mkdir()
        subprocess.run(["truncate", "--size", size, str(image)], check=True)
        subprocess.run([*MAKERS[kind], str(image)], check=True, capture_output=True)
        # The image's own pages would be cached twice, and dropped by nobody.
        loop = subprocess.run(
            ["losetup", "--find", "--show", "--direct-io=on", str(image)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        try:
            subprocess.run(["mount", loop, str(mount)], check=True)
            try:
                yield mount
            finally:
                subprocess.run(["umount", str(mount)], check=True)
        finally:
            subprocess.run(["losetup", "--detach", loop], check=True)
