# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from livebackup_receiver.coordinator.attendance import GRACE_S, Attendance
from livebackup_receiver.model import SessionState


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def attendance(clock: Clock) -> Attendance:
    return Attendance(silence_s=30, stop_budget_s=4, clock=clock)


def test_silence_is_counted_from_the_last_word() -> None:
    clock = Clock()
    hosts = attendance(clock)
    hosts.hear("hv1")
    clock.now += 12
    assert hosts.silence_s("hv1") == 12
    hosts.hear("hv1")
    assert hosts.silence_s("hv1") == 0


def test_who_waits_for_an_answer_is_not_silent() -> None:
    clock = Clock()
    hosts = attendance(clock)
    with hosts.listening("hv1"):
        clock.now += 100
        assert hosts.silence_s("hv1") == 0
    clock.now += 1
    assert hosts.silence_s("hv1") == 1


def test_less_silence_is_allowed_while_vms_stand_still() -> None:
    hosts = attendance(Clock())
    assert hosts.limit_s(SessionState.TRANSFERRING) == 30
    assert hosts.limit_s(SessionState.STOPPING) == 4 + GRACE_S
    assert hosts.limit_s(SessionState.CUTTING) == 4 + GRACE_S
