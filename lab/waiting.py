# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for a state instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from lab.errors import TimedOut

T = TypeVar("T")


def until(
    condition: Callable[[], T | None], awaited: str, *, timeout: float = 30, interval: float = 0.03
) -> T:
    """The first true result of `condition`; TimedOut (naming `awaited`) after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise TimedOut(awaited, timeout)
        time.sleep(interval)
    return result
