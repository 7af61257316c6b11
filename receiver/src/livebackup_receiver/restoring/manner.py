# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a restore is done, and what it has done."""

from __future__ import annotations

from dataclasses import dataclass, field

from livebackup_receiver.restore import DiskRestore
from livebackup_receiver.store.ranges import Range

JOBS = 4


@dataclass(frozen=True)
class Manner:
    """What was asked for.

    :param force: replace files that exist, unless they are in use
    :param verify: read everything back and compare it with the digests of the point; without it nothing of an
        earlier run is kept
    :param delta: replace older copies, and take from them what is the same
    :param accept_damage: leave out what is damaged, and say what that is
    :param jobs: how many disks at once
    """

    force: bool = False
    verify: bool = True
    delta: bool = False
    accept_damage: bool = False
    jobs: int = JOBS

    @property
    def replaces(self) -> bool:
        """Whether a file that is there may be replaced."""
        return self.force or self.delta


@dataclass(frozen=True)
class Restored:
    """What became of one disk; sizes in bytes.

    :param moved_bytes: were read from the store
    :param taken_bytes: were taken from an older copy
    :param resumed_bytes: were there from an earlier run
    :param tracked: whether the file carries the bitmap with which backups go on
    :param lost: what is not as it was at the point
    """

    disk: DiskRestore
    moved_bytes: int
    taken_bytes: int = 0
    resumed_bytes: int = 0
    tracked: bool = False
    lost: list[Range] = field(default_factory=list)
