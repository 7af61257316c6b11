# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restored disk is tracked from birth: it carries the bitmap of its point, and nothing is written since.

QEMU records in it from the first write of the guest on, so the next backup is incremental from that point.
"""

from __future__ import annotations

from pathlib import Path

from livebackup_receiver.chain.image import open_image
from livebackup_receiver.subprocesses import run_in_thread

BITMAP_PREFIX = "livebackup:"
GRANULARITY = "65536"


def add_bitmap(image: Path, point: str) -> None:
    """Give a qcow2 file the bitmap of a point: persistent, enabled and empty.

    :raise CommandFailed: qemu-img failed
    """
    words = ["--add", "-g", GRANULARITY, "-f", "qcow2", str(image), BITMAP_PREFIX + point]
    run_in_thread(["qemu-img", "bitmap", *words])


def has_bitmap(image: Path) -> bool:
    """Whether a qcow2 file has any.

    :raise LayerDamaged: it is no sound image
    """
    with open_image(image) as opened:
        return opened.has_bitmaps


def remove_bitmap(image: Path, point: str) -> None:
    """Take it away again.

    :raise CommandFailed: qemu-img failed
    """
    run_in_thread(["qemu-img", "bitmap", "--remove", "-f", "qcow2", str(image), BITMAP_PREFIX + point])
