# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a session fits into the store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from livebackup_receiver.errors import StoreFull
from livebackup_receiver.model import Level, Session, Transfer, TransferState


def free_bytes(path: Path) -> int:
    """What the receiver may still write to the file system of this path."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def planned_bytes(transfer: Transfer, *, allocated_bytes: int | None) -> int:
    """The bytes a planned disk will probably store.

    The changes of an incremental are counted by its bitmap; those of a resync are usually few, and known
    only when the disk has been read. Of a full backup only the participant can know how much of the disk
    is in use; its virtual size would refuse nearly every session.
    """
    if transfer.level is not Level.FULL:
        return transfer.dirty_bytes or 0
    return allocated_bytes or 0


def outstanding_bytes(sessions: Iterable[Session]) -> int:
    """What running sessions will still store, of what is known of them."""
    waiting = (TransferState.PLANNED, TransferState.CUT, TransferState.TRANSFERRING)
    disks = [disk for session in sessions for disk in session.disks if disk.state in waiting]
    return sum(
        max(0, (disk.dirty_bytes or 0) - disk.sent_bytes) for disk in disks if disk.level is Level.INCREMENTAL
    )


def by_volume(needs: Mapping[tuple[str, str], int], homes: Mapping[tuple[str, str], Path]) -> dict[Path, int]:
    """What all disks on each volume need together; pure."""
    found = dict.fromkeys(homes.values(), 0)
    for disk, need in needs.items():
        found[homes[disk]] += need
    return found


def require_room(store: Path, *, free: int, reserve: int, need: int = 0) -> None:
    """Refuse what would not leave the reserve free; sizes in bytes.

    :raise StoreFull: need and reserve are more than is free
    """
    if need + reserve > free:
        raise StoreFull(str(store), need + reserve, free)
