# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The names Livebackup leaves in a QEMU process. For internal use of livebackup.qemu only.

All recovery is driven by these names, so they must never change meaning. Bitmaps may hold a colon; node, job
and object names may not (QEMU: at most 31 bytes of ``[A-Za-z0-9-._]``).
"""

from __future__ import annotations

import re

BITMAP_PREFIX = "livebackup:"
MARKER = "livebackup:tracked"
FROZEN = "livebackup:frozen"
END = "livebackup:end"

PREFIX = "lb-"
MOVING = "livebackup-moving-"
PAUSE = "lb-pause"
FREEZE = "lb-freeze"
HOOK = "lb-hook"
PSK = "lb-psk"
SESSION_PREFIX = "lb-session-"

_POINT = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_NODE = re.compile(r"lb-(cbw|snap|tmp|nbd|end|last|zero|sink|bits)-[0-9]+")


def checkpoint(point: str) -> str:
    """Name of the bitmap that records what was written since a restore point."""
    return BITMAP_PREFIX + point


def point_of(bitmap: str) -> str | None:
    """The restore point (a ULID) a checkpoint bitmap belongs to, or None for any other bitmap."""
    point = bitmap[len(BITMAP_PREFIX) :]
    return point if bitmap.startswith(BITMAP_PREFIX) and _POINT.fullmatch(point) else None


def end(point: str) -> str:
    """Name of the bitmap that proves that a disk was not made smaller since a restore point."""
    return f"{END}:{point}"


def ended_point_of(bitmap: str) -> str | None:
    """The restore point an end bitmap belongs to, or None for any other bitmap."""
    return point_of(BITMAP_PREFIX + bitmap[len(END) + 1 :]) if bitmap.startswith(f"{END}:") else None


def is_ours(bitmap: str) -> bool:
    """Whether a bitmap is Livebackup's: marker, frozen copy, checkpoint or end."""
    return bitmap.startswith(BITMAP_PREFIX)


def node(kind: str, index: int) -> str:
    """Name of a block node of the disk with this index; for the kinds see ``node_kind``."""
    return f"{PREFIX}{kind}-{index}"


def node_kind(name: str) -> str | None:
    """cbw, snap, tmp, nbd, end, last, zero, sink or bits if the node is ours, else None."""
    match = _NODE.fullmatch(name)
    return match.group(1) if match else None


def job(index: int) -> str:
    """Id of the backup job of the disk with this index."""
    return f"{PREFIX}job-{index}"


def end_job(index: int) -> str:
    """Id of the job that dirties the last sector of the node ``end`` with this index."""
    return f"{PREFIX}mark-{index}"


def reading(index: int) -> str:
    """Id of the job that reads the disk with this index to compare it."""
    return f"{PREFIX}read-{index}"


def moving_job(index: int) -> str:
    """Id of the job that moves the disk with this index here.

    Not one of ``PREFIX``, since a backup ends those; for a backup it is the job of another program.
    """
    return f"{MOVING}job-{index}"


def moving_node(index: int) -> str:
    """Name of the filter that this job puts over the disk."""
    return f"{MOVING}{index}"


def is_moving(name: str) -> bool:
    """Whether a node is such a filter."""
    return name.startswith(MOVING)


def fd(index: int) -> str:
    """Name under which QEMU knows the socket to the receiver."""
    return f"{PREFIX}fd-{index}"


def sink_fd(index: int) -> str:
    """Name under which QEMU knows the socket to the process that compares."""
    return f"{PREFIX}sink-fd-{index}"


def scratch(index: int) -> str:
    """Label of the file descriptor set that holds a disk's scratch image."""
    return f"{PREFIX}scratch-{index}"


def session_object(session: str) -> str:
    """Id of the object that says which session works on this VM."""
    return SESSION_PREFIX + session


def session_of(object_id: str) -> str | None:
    """The session an object claims the VM for, or None for any other object."""
    return object_id[len(SESSION_PREFIX) :] if object_id.startswith(SESSION_PREFIX) else None
