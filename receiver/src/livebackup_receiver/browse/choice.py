# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file system of a guest a path means."""

from __future__ import annotations

from collections.abc import Sequence

from livebackup_receiver.browse.entries import OWN_TREE, FileSystem


def split(path: str) -> tuple[str | None, str]:
    """File system and path of what somebody has written; pure.

    ``sda1:/etc/hosts`` names both, ``sda1`` or ``sda1:`` the root of one; ``/etc/hosts`` names none.
    """
    if path.startswith("/"):
        return None, path
    name, colon, rest = path.partition(":/")
    return name.removesuffix(":"), f"/{rest}" if colon else "/"


def usual(file_systems: Sequence[FileSystem]) -> str:
    """The file system that a path means which names none: the only one, else the guest's own tree; pure."""
    readable = [each.name for each in file_systems if each.problem is None]
    return readable[0] if len(readable) == 1 else OWN_TREE
