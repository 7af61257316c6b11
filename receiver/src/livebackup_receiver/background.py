# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that goes on beside something else, and never longer than that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def in_background(work: Coroutine[Any, Any, None], *, name: str) -> AsyncIterator[None]:
    """Run a coroutine until the block ends; then it is cancelled, and has ended.

    Entering waits for nothing. What the coroutine raises is raised when the block ends.

    :param name: of its task, for whoever looks at what runs
    """
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        task.cancel()
        # Awaiting the task itself could not be told from being cancelled while waiting for it.
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()
