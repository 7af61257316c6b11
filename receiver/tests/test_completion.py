# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import pytest

from livebackup_receiver.completion import complete, complete_in_thread


async def test_what_it_returns_and_raises_comes_through() -> None:
    async def answer() -> int:
        return 42

    assert await complete(answer()) == 42
    with pytest.raises(ValueError, match="invalid literal"):
        await complete_in_thread(int, "x")


async def test_a_cancelled_caller_waits_for_the_thread() -> None:
    started, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        go_on.wait()
        done.set()

    caller = asyncio.create_task(complete_in_thread(work))
    await asyncio.to_thread(started.wait)
    caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()
    go_on.set()
    with suppress(asyncio.CancelledError):
        await caller
    assert caller.cancelled()
    assert done.is_set()
