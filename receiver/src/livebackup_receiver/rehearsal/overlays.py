# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The images that take what guests write, and how much that may be."""

from __future__ import annotations

from pathlib import Path

from livebackup_receiver import subprocesses

LEAST_BYTES = 16 << 20
CREATE_S = 60.0


def bound_of(free: int, reserve: int, disks: int, most: int) -> int | None:
    """How many bytes each of so many images may take; None if there is no room for that. Pure.

    :param free: bytes of the file system
    :param reserve: of these, what must be left
    :param most: what the configuration allows
    """
    bound = min(most, (free - reserve) // max(disks, 1))
    return bound if bound >= LEAST_BYTES else None


async def create_overlay(path: Path, virtual_size: int) -> None:
    """Make an empty image; what lies below it is said when it is opened.

    :raise CommandFailed: it cannot be made
    """
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", str(path), str(virtual_size)]
    await subprocesses.run(argv, timeout_s=CREATE_S)
