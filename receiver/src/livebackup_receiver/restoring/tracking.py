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
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from livebackup_receiver.subprocesses import run_in_thread

CHECKPOINT, END, MARKER = "livebackup:{}", "livebackup:end:{}", "livebackup:tracked"
END_SOURCE = "end"
SECTOR = 512


@contextmanager
def end_bitmap(virtual_size: int) -> Iterator[Future[Path]]:
    """An image with the end bitmap of a disk of this size, which is made while the block runs.

    :raise CommandFailed: qemu-img failed
    """
    with tempfile.TemporaryDirectory(prefix="livebackup-") as directory, ThreadPoolExecutor(1) as pool:
        yield pool.submit(_make_end_bitmap, Path(directory, "end.qcow2"), virtual_size)


def add_bitmaps(image: Path, point: str, end: Path) -> None:
    """Give a qcow2 file the bitmaps of a point; none of its data is read or written.

    :param end: as ``end_bitmap`` makes it
    :raise CommandFailed: qemu-img failed
    """
    merged = ("--merge", END_SOURCE, "-b", str(end), "-F", "qcow2")
    _bitmap(image, "--add", "--disable", *merged, END.format(point))
    _bitmap(image, "--add", "--disable", MARKER)
    _bitmap(image, "--add", CHECKPOINT.format(point))


def remove_checkpoint(image: Path, point: str) -> None:
    """Have the next backup compare all of the disk instead.

    :raise CommandFailed: qemu-img failed
    """
    for name in (CHECKPOINT, END):
        _bitmap(image, "--remove", name.format(point))


def _make_end_bitmap(image: Path, virtual_size: int) -> Path:
    run_in_thread(["qemu-img", "create", "-q", "-f", "qcow2", str(image), str(virtual_size)])
    _bitmap(image, "--add", END_SOURCE)
    write = f"write -q {virtual_size - SECTOR} {SECTOR}"
    run_in_thread(["qemu-io", "-f", "qcow2", "-c", write, str(image)])
    return image


def _bitmap(image: Path, *words: str) -> None:
    *options, name = words
    granularity = ["-g", "65536"] if "--add" in options else []
    # Whoever calls this syncs the file once, instead of qemu-img several times.
    opened = "driver=qcow2,cache.no-flush=on,file.driver=file,file.cache.no-flush=on,file.filename="
    opened += str(image).replace(",", ",,")
    run_in_thread(["qemu-img", "bitmap", *options, *granularity, "--image-opts", opened, name])
