# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that rot: bytes of layers that change, and sectors that cannot be read."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sample_store import run

CLUSTER = 65536
SECTOR = 512


def place_of(layer: Path, offset: int) -> int:
    """Where in its file a layer keeps a byte of the disk, by qemu-img."""
    for each in json.loads(run("qemu-img", "map", "--output=json", "-f", "qcow2", str(layer))):
        if each["start"] <= offset < each["start"] + each["length"] and each["depth"] == 0:
            return int(each["offset"]) + offset - int(each["start"])
    raise AssertionError(f"{layer} does not hold byte {offset}")


def flip(layer: Path, offset: int) -> None:
    """Change one bit of a byte of the disk."""
    flip_in_file(layer, place_of(layer, offset))


def flip_in_file(path: Path, place: int, bit: int = 0) -> None:
    """Change one bit of a file."""
    with path.open("r+b") as file:
        byte = os.pread(file.fileno(), 1, place)[0]
        os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), place)
        os.fsync(file.fileno())


@contextmanager
def bad_sector(path: Path, place: int) -> Iterator[None]:
    """Reading this sector of a file fails until the block ends; QEMU serves the file through FUSE."""
    content = path.rename(path.with_name(path.name + ".content"))
    path.touch()
    sector = place // SECTOR
    daemon = subprocess.Popen(
        [
            "qemu-storage-daemon",
            f"--blockdev=file,node-name=file,filename={content}",
            "--blockdev=blkdebug,node-name=bad,image=file,inject-error.0.event=none,inject-error.0.iotype=read,"
            f"inject-error.0.errno=5,inject-error.0.sector={sector},inject-error.0.immediately=off",
            f"--export=fuse,id=bad,node-name=bad,mountpoint={path},writable=off",
        ]
    )
    try:
        while not path.stat().st_size:
            assert daemon.poll() is None
            time.sleep(0.02)
        yield
    finally:
        daemon.terminate()
        daemon.wait(10)
        path.unlink()
        content.rename(path)
