# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the file system of a store can do, and what that means for whoever drops points."""

from __future__ import annotations

from pathlib import Path

from livebackup_receiver.chain.copying import shares
from livebackup_receiver.chain.holes import punches
from livebackup_receiver.consolidation.plan import Abilities


def abilities_of(directory: Path) -> Abilities:
    """Ask a file system by trying.

    :raise OSError: nothing can be written there
    """
    return Abilities(shares=shares(directory), punches=punches(directory))


def describe(abilities: Abilities, directory: Path, *, max_depth: int) -> str:
    """What becomes of the room of dropped points, in a sentence; pure.

    :param max_depth: the layers that a chain may have
    """
    if abilities.shares:
        return f"files in {directory} can share extents: dropped points give back their room without copying"
    if abilities.punches:
        return (
            f"files in {directory} can have holes, but not share extents: dropped points give back their "
            f"room without copying, and only chains of more than {max_depth} layers are shortened by copying"
        )
    return (
        f"files in {directory} can neither share extents nor have holes: dropped points give back their room "
        f"only when a chain has more than {max_depth} layers, by copying; XFS and Btrfs share extents, "
        "and ext4 makes holes"
    )
