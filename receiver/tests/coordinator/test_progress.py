# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import timedelta

from sample_records import NOW, session, transfer

from livebackup_receiver.coordinator.progress import Standstill, note_progress, stuck_disks
from livebackup_receiver.model import Participant, ParticipantState, SessionState, Transfer, TransferState

MIB = 1 << 20


def after(disk: Transfer, seconds: float, done: int, *, total: int = 100 * MIB, sent: int = 0) -> Transfer:
    note_progress(disk, done, total, sent, now=NOW + timedelta(seconds=seconds))
    return disk


def test_a_steady_transfer_shows_its_rate_and_the_time_that_is_left() -> None:
    disk = transfer()
    assert after(disk, 0, MIB).bytes_per_s is None
    for second in range(1, 10):
        after(disk, second, (second + 1) * MIB)
    assert (disk.bytes_per_s, disk.remaining_s) == (MIB, 90.0)
    assert disk.progressed_at == NOW + timedelta(seconds=9)


def test_the_rate_follows_what_happens_now() -> None:
    disk = transfer()
    for second in range(60):
        after(disk, second, second * MIB)
    after(disk, 90, 60 * MIB)
    assert disk.bytes_per_s is not None
    assert disk.bytes_per_s < MIB // 8
    assert disk.progressed_at == NOW + timedelta(seconds=90)
    before = disk.bytes_per_s
    after(disk, 91, 60 * MIB)
    assert (disk.bytes_per_s, disk.progressed_at) == (before, NOW + timedelta(seconds=90))


def test_another_phase_or_a_clock_that_was_set_back_shows_no_nonsense() -> None:
    disk = transfer()
    after(disk, 0, 50 * MIB)
    after(disk, 1, 51 * MIB)
    assert after(disk, -3600, 52 * MIB).bytes_per_s == MIB
    assert after(disk, 2, 0).bytes_per_s is None
    assert disk.remaining_s is None


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_host_stands_still_when_none_of_its_disks_moves_in_any_way() -> None:
    clock = Clock()
    standstill = Standstill(clock=clock)
    disks = [transfer("db"), transfer("db", "vd-b"), transfer("web", host="hv2")]
    states = [
        Participant(host=host, state=ParticipantState.TRANSFERRING, heard_at=NOW) for host in ("hv1", "hv2")
    ]
    record = session(hosts=["hv1", "hv2"], participants=states, disks=disks)
    assert standstill.look(record) == {"hv1": 0, "hv2": 0}
    clock.now = 10
    disks[1].sent_bytes += 1
    assert standstill.look(record) == {"hv1": 0, "hv2": 10}
    clock.now = 20
    disks[2].total_bytes -= 5
    assert standstill.look(record) == {"hv1": 10, "hv2": 0}
    disks[1].state = TransferState.TRANSFERRED
    assert stuck_disks(record, "hv1") == ["db/vd-a"]
    states[0].state = ParticipantState.TRANSFERRED
    assert list(standstill.look(record)) == ["hv2"]
    record.state = SessionState.SEALING
    assert standstill.look(record) == {}
