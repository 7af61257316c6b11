# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from livebackup_receiver.coordinator.bandwidth import disk_speed
from livebackup_receiver.model import Level, Transfer, TransferState

MIB = 1 << 20
PLANNED, CUT, RUNNING = TransferState.PLANNED, TransferState.CUT, TransferState.TRANSFERRING


def transfer(state: TransferState, done: int = 0, total: int = MIB) -> Transfer:
    return Transfer(
        vm="db", disk="vd-a", host="hv1", level=Level.FULL, level_reason="first backup of this disk",
        parent=None, virtual_size=MIB, state=state, done_bytes=done, total_bytes=total,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("transfers", "limit", "speed"),
    [
        ([transfer(RUNNING)], None, None),
        ([transfer(RUNNING)], 8 * MIB, 8 * MIB),
        ([transfer(RUNNING), transfer(CUT), transfer(PLANNED, total=0), transfer(RUNNING)], 8 * MIB, 2 * MIB),
        ([transfer(RUNNING), transfer(RUNNING, done=MIB)], 8 * MIB, 8 * MIB),
        ([transfer(RUNNING), transfer(CUT, total=0)], 8 * MIB, 8 * MIB),
        ([transfer(RUNNING), transfer(TransferState.TRANSFERRED, done=MIB)], 8 * MIB, 8 * MIB),
        ([transfer(RUNNING), transfer(TransferState.FAILED)], 8 * MIB, 8 * MIB),
        ([transfer(RUNNING)] * 1000, MIB, 65536),
        ([], MIB, MIB),
    ],
)
def test_equal_shares_for_what_still_runs(
    transfers: list[Transfer], limit: int | None, speed: int | None
) -> None:
    assert disk_speed(transfers, limit) == speed
