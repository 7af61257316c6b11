# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of a running receiver, again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from sample_records import session

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.check_watch import open_check_watch
from livebackup_receiver.checks.result import Check, CheckState
from livebackup_receiver.config import Config
from livebackup_receiver.model import Session, SessionState

States = dict[str, CheckState]


def states(checks: Sequence[Check]) -> States:
    return {check.name: check.state for check in checks}


async def test_the_checks_run_at_once_and_then_again(config: Config, catalog: Catalog) -> None:
    told: asyncio.Queue[tuple[States, States]] = asyncio.Queue()
    often = config.model_copy(update={"check_interval_s": 0.01})
    async with open_check_watch(
        often, catalog, list, lambda before, now: told.put_nowait((states(before), states(now)))
    ) as watch:
        first, second = await told.get(), await told.get()
        assert watch.ran_at is not None
        assert states(watch.latest) == second[1]
    assert first[0] == {}
    assert second[0] == first[1]


async def test_a_change_of_the_store_shows_in_the_next_run(config: Config, catalog: Catalog) -> None:
    async with open_check_watch(config, catalog, list, lambda before, now: None) as watch:
        assert states(await watch.run())["store"] is CheckState.OK
        config.store.rename(config.store.with_name("elsewhere"))
        assert states(await watch.run())["store"] is CheckState.FAILED


async def test_no_checks_are_run_while_vms_stand_still(
    config: Config, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livebackup_receiver.check_watch.POSTPONE_S", 0.01)
    looks: asyncio.Queue[None] = asyncio.Queue()
    running = [session(SessionState.CUTTING)]
    ran = asyncio.Event()

    def open_sessions() -> list[Session]:
        looks.put_nowait(None)
        return running

    async with open_check_watch(config, catalog, open_sessions, lambda before, now: ran.set()) as watch:
        for dummy in range(3):
            await looks.get()
        assert watch.ran_at is None
        running.clear()
        await ran.wait()
