# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions come first."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import pytest
from sample_records import session
from waiting import until

from livebackup_receiver.consolidation.turns import GiveWay, Pace, Turns, open_share, share_of
from livebackup_receiver.model import Session, SessionState
from livebackup_receiver.subprocesses import run_in_thread

MIB = 1 << 20


def test_copying_keeps_to_its_speed() -> None:
    pace = Pace(10 * MIB, lambda: 1.0)
    started = time.monotonic()
    for dummy in range(5):
        pace(MIB)
    assert time.monotonic() - started >= 0.4


def test_it_is_slower_while_sessions_run_and_stops_while_vms_stand_still() -> None:
    assert share_of([]) == 1.0
    assert share_of([SessionState.TRANSFERRING]) == 0.1
    assert share_of([SessionState.TRANSFERRING, SessionState.CUTTING]) == 0.0


async def test_the_share_follows_the_sessions() -> None:
    running: list[Session] = [session(SessionState.CUTTING)]
    async with open_share(lambda: running) as share:
        assert share() == 0.0
        running.clear()

        async def undisturbed() -> bool:
            return share() == 1.0

        assert await until(undisturbed)


def test_who_has_to_stop_stops_even_while_nothing_may_be_copied() -> None:
    pace = Pace(MIB, lambda: 0.0)
    pace.stop.set()
    with pytest.raises(GiveWay):
        pace(MIB)


def test_a_program_is_killed_to_give_way() -> None:
    pace = Pace(0, lambda: 1.0)
    pace.stop.set()
    started = time.monotonic()
    with pytest.raises(GiveWay):
        run_in_thread(["sleep", "30"], look=partial(pace, 0))
    assert time.monotonic() - started < 5


async def test_a_session_waits_until_its_vms_are_left_alone() -> None:
    turns, pace = Turns(), Pace(0, lambda: 1.0)
    order: list[str] = []
    at_work = asyncio.Event()

    async def consolidate() -> None:
        async with turns.work("db", pace):
            at_work.set()
            await asyncio.to_thread(pace.stop.wait)
            order.append("gave way")

    working = asyncio.create_task(consolidate())
    await at_work.wait()
    assert not turns.is_free("db")
    async with turns.session(["db", "web"]):
        order.append("session")
        assert not turns.is_free("web")
    await working
    assert order == ["gave way", "session"]
    assert turns.is_free("db")


async def test_other_vms_are_not_waited_for() -> None:
    turns, pace = Turns(), Pace(0, lambda: 1.0)
    async with turns.work("db", pace), asyncio.timeout(1), turns.session(["web"]):
        assert not pace.stop.is_set()
