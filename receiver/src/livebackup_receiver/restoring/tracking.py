# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restored disk is tracked from birth: its file carries the bitmaps that a backup would have left on it.

The names are those of the collection's ``_names.py``. The checkpoint of the point is empty, and QEMU records
in it from the first write of the guest on, so the next backup is incremental from that point. Its end bitmap,
with only the bit of the disk's last bytes, proves that the disk was not cut off since; the marker says that
the disk is backed up at all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from livebackup_receiver.subprocesses import run_in_thread

CHECKPOINT, END, MARKER = "livebackup:{}", "livebackup:end:{}", "livebackup:tracked"
SECTOR = 512


def add_bitmaps(image: Path, point: str, virtual_size: int) -> None:
    """Give a qcow2 file the bitmaps of a point; none of its data is read or written.

    :raise CommandFailed: qemu-img failed
    """
    with _end_bitmap(virtual_size) as (source, name):
        _bitmap(
            image, "--add", "--disable", "--merge", name, "-b", str(source), "-F", "qcow2", END.format(point)
        )
    _bitmap(image, "--add", "--disable", MARKER)
    _bitmap(image, "--add", CHECKPOINT.format(point))


def remove_checkpoint(image: Path, point: str) -> None:
    """Have the next backup compare all of the disk instead.

    :raise CommandFailed: qemu-img failed
    """
    for name in (CHECKPOINT, END):
        _bitmap(image, "--remove", name.format(point))


@contextmanager
def _end_bitmap(virtual_size: int) -> Iterator[tuple[Path, str]]:
    """An image of its own with a bitmap in which only the last bytes are dirty, and that bitmap's name."""
    with tempfile.TemporaryDirectory(prefix="livebackup-") as directory:
        image = Path(directory, "end.qcow2")
        run_in_thread(["qemu-img", "create", "-q", "-f", "qcow2", str(image), str(virtual_size)])
        _bitmap(image, "--add", "end")
        write = f"write -q {virtual_size - SECTOR} {SECTOR}"
        run_in_thread(["qemu-io", "-f", "qcow2", "-c", write, str(image)])
        yield image, "end"


def _bitmap(image: Path, *words: str) -> None:
    *options, name = words
    granularity = ["-g", "65536"] if "--add" in options else []
    run_in_thread(["qemu-img", "bitmap", *options, *granularity, "-f", "qcow2", str(image), name])
