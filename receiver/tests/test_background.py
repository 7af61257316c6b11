# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import asyncio

import pytest

from livebackup_receiver.background import in_background


async def test_work_has_ended_when_the_block_has() -> None:
    told: list[str] = []
    begun = asyncio.Event()

    async def work() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            told.append("ended")

    async with in_background(work(), name="work"):
        await begun.wait()
        assert "work" in {task.get_name() for task in asyncio.all_tasks()}
    assert told == ["ended"]


async def test_what_goes_wrong_is_not_kept_secret() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with in_background(fail(), name="work"):
            await asyncio.sleep(0)


async def test_who_is_cancelled_while_the_work_ends_is_cancelled() -> None:
    ending = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await asyncio.sleep(0)

    async def use() -> None:
        async with in_background(work(), name="work"):
            await asyncio.sleep(0)
        pytest.fail("it was cancelled, and goes on")

    user = asyncio.create_task(use())
    await ending.wait()
    user.cancel()
    with pytest.raises(asyncio.CancelledError):
        await user
