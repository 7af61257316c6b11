# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The boot disk of the tests' guest; see guest.S for what the guest does."""

from __future__ import annotations

import functools
import struct
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("guest.S")
BOOT_DISK_BYTES = 1 << 20
_BLOCK = 4096


@functools.cache
def boot_sector() -> bytes:
    """Assemble guest.S."""
    with tempfile.TemporaryDirectory() as directory:
        objects, image = Path(directory, "guest.o"), Path(directory, "guest.bin")
        subprocess.run(["as", "--32", str(SOURCE), "-o", str(objects)], check=True)
        link = ["ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", objects, "-o", image]
        subprocess.run(list(map(str, link)), check=True)
        return image.read_bytes()


def write_boot_disk(path: Path, *, disks: int, disk_bytes: int, rounds: int) -> None:
    """Write a boot disk for a guest with so many disks of this size that makes ``rounds`` rounds per tick."""
    # the first block is sector 0's, and the mask wants a power of two
    blocks = 1 << ((disk_bytes // _BLOCK - 1).bit_length() - 1)
    sector = bytearray(boot_sector())
    struct.pack_into("<BB2xI", sector, 496, disks, rounds, blocks - 1)
    path.write_bytes(sector.ljust(BOOT_DISK_BYTES, b"\0"))
