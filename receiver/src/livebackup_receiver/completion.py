# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that is seen through to its end, even if whoever waits for it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def complete(work: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine; if cancelled, wait until it has ended all the same."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


async def complete_in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function in a thread to its end.

    A thread cannot be cancelled, and what it changes must not appear after its caller has cleaned up.
    """
    return await complete(asyncio.to_thread(function, *args, **kwargs))
