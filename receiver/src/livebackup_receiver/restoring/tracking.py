# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restored disk is tracked from birth: it carries the bitmaps that a backup at its point has left.

These are the marker ``livebackup:tracked``; the checkpoint bitmap of the point, which is empty, as nothing is
written since; and the end bitmap, in which the last bytes of the disk are marked. QEMU records from the first
write of the guest on, so the next backup is incremental from that point.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from livebackup_receiver.chain.image import open_image
from livebackup_receiver.subprocesses import run_in_thread

MARKER = "livebackup:tracked"
GRANULARITY = 65536
SECTOR = 512


def add_bitmaps(image: Path, point: str, virtual_size: int) -> None:
    """Give a qcow2 file the bitmaps of a point, all of them persistent.

    :raise CommandFailed: qemu-img or qemu-io failed
    """
    _bitmap("--add", "--disable", image, MARKER)
    _add_end(image, point, virtual_size)
    _bitmap("--add", image, _checkpoint(point))


def has_bitmap(image: Path) -> bool:
    """Whether a qcow2 file has any.

    :raise LayerDamaged: it is no sound image
    """
    with open_image(image) as opened:
        return opened.has_bitmaps


def remove_checkpoint(image: Path, point: str) -> None:
    """Leave a file without the bitmaps of its point; it stays tracked.

    :raise CommandFailed: qemu-img failed
    """
    for name in (_checkpoint(point), _end(point)):
        _bitmap("--remove", image, name)


def _checkpoint(point: str) -> str:
    return f"livebackup:{point}"


def _end(point: str) -> str:
    return f"livebackup:end:{point}"


def _add_end(image: Path, point: str, virtual_size: int) -> None:
    # A bit is set by writing only, so that is done to an empty image of this size.
    with tempfile.TemporaryDirectory(prefix=".end-", dir=image.parent) as directory:
        empty, name = Path(directory, "empty.qcow2"), _end(point)
        run_in_thread(["qemu-img", "create", "-q", "-f", "qcow2", str(empty), str(virtual_size)])
        _bitmap("--add", empty, name)
        last = f"write -q -z {virtual_size - SECTOR} {SECTOR}"
        run_in_thread(["qemu-io", "-f", "qcow2", "-c", last, str(empty)])
        _bitmap("--add", "--disable", "--merge", name, "-b", empty, "-F", "qcow2", image, name)


def _bitmap(*words: str | Path) -> None:
    """`qemu-img bitmap`; its options come first, then the image and the name of the bitmap."""
    granularity = ["-g", str(GRANULARITY)] if "--add" in words else []
    *options, image, name = map(str, words)
    run_in_thread(["qemu-img", "bitmap", *options, *granularity, "-f", "qcow2", image, name])
