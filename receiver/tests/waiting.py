# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for a state instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.02


async def until(look: Callable[[], Awaitable[T | None]], *, timeout_s: float = 20) -> T:
    """The first thing seen that is something.

    :raise TimeoutError: nothing was seen in time
    """
    async with asyncio.timeout(timeout_s):
        while not (seen := await look()):  # noqa: ASYNC110 - others do not tell us
            await asyncio.sleep(POLL_S)
        return seen
