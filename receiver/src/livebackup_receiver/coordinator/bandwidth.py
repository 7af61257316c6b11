# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a session's bandwidth is divided; pure."""

from __future__ import annotations

from collections.abc import Sequence

from livebackup_receiver.model import Transfer, TransferState

# Many disks may share little, but each must come to an end.
SLOWEST = 1 << 16


def disk_speed(transfers: Sequence[Transfer], limit: int | None) -> int | None:
    """Bytes per second for each transfer that is not done, all the same; None without a limit."""
    if limit is None:
        return None
    return max(SLOWEST, limit // max(1, sum(map(_needs_some, transfers))))


def _needs_some(transfer: Transfer) -> bool:
    if transfer.state is TransferState.PLANNED:
        return True
    running = transfer.state in (TransferState.CUT, TransferState.TRANSFERRING)
    return running and transfer.done_bytes < transfer.total_bytes
