# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast disks are transferred, and which hosts make no progress; no I/O."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import datetime

from livebackup_receiver.model import ParticipantState, Session, SessionState, Transfer, TransferState

# A rate shows the last seconds; what is older counts less and less.
SMOOTHING_S = 10.0
AT_WORK = (ParticipantState.CUT, ParticipantState.TRANSFERRING)
UNDER_WAY = (TransferState.CUT, TransferState.TRANSFERRING)


def note_progress(transfer: Transfer, done: int, total: int, sent: int, *, now: datetime) -> None:
    """Take over what a participant says of a disk, in bytes; work out rate and remaining time."""
    if (done, total, sent) != (transfer.done_bytes, transfer.total_bytes, transfer.sent_bytes):
        transfer.bytes_per_s = _rate(transfer, done, now)
        transfer.progressed_at = now
    transfer.done_bytes, transfer.total_bytes, transfer.sent_bytes = done, total, sent
    rate = transfer.bytes_per_s
    transfer.remaining_s = round(max(0, total - done) / rate, 1) if rate else None


def _rate(transfer: Transfer, done: int, now: datetime) -> int | None:
    """The smoothed rate; unknown at first, and when another phase begins to count anew."""
    if transfer.progressed_at is None or done < transfer.done_bytes:
        return None
    seconds = (now - transfer.progressed_at).total_seconds()
    if seconds <= 0:
        return transfer.bytes_per_s
    latest = (done - transfer.done_bytes) / seconds
    before = latest if transfer.bytes_per_s is None else transfer.bytes_per_s
    weight = 1 - math.exp(-seconds / SMOOTHING_S)
    return round(before + weight * (latest - before))


class Standstill:
    """For how long each host of a session has moved none of its disks, whatever it says it is doing."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[object, float]] = {}

    def look(self, session: Session) -> dict[str, float]:
        """The seconds without progress of each host that has something to transfer."""
        now = self._clock()
        marks = _marks(session)
        for host, mark in marks.items():
            if host not in self._seen or self._seen[host][0] != mark:
                self._seen[host] = mark, now
        return {host: now - self._seen[host][1] for host in marks}


def stuck_disks(session: Session, host: str) -> list[str]:
    """The disks that a host has not transferred yet, as "<vm>/<disk>"."""
    return [
        f"{disk.vm}/{disk.disk}" for disk in session.disks if disk.host == host and disk.state in UNDER_WAY
    ]


def _marks(session: Session) -> dict[str, list[tuple[int, int, int]]]:
    """What changes when a host makes progress."""
    if session.state is not SessionState.TRANSFERRING:
        return {}
    at_work = {each.host for each in session.participants if each.state in AT_WORK}
    marks: dict[str, list[tuple[int, int, int]]] = {host: [] for host in at_work}
    for disk in session.disks:
        if disk.host in at_work:
            marks[disk.host].append((disk.done_bytes, disk.total_bytes, disk.sent_bytes))
    return marks
