# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A part of the receiver in a process of its own, so that it can be killed at a boundary."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

from livebackup_receiver.faultpoints import VARIABLE

FORK = multiprocessing.get_context("fork")
END_TIMEOUT_S = 60


def killed_at(point: str, hit: int, work: Callable[[], None], scratch: Path) -> bool:
    """Run ``work`` in a child that is killed when it is at a boundary for the given time; whether it was.

    ``work`` must open its own catalog: a connection does not survive a fork.
    """
    wish = scratch / "wish"
    wish.write_text(f"{point}#{hit} kill")
    child = FORK.Process(target=_work, args=(wish, work))
    child.start()
    child.join(END_TIMEOUT_S)
    wish.unlink(missing_ok=True)
    assert child.exitcode in (0, -signal.SIGKILL), child.exitcode
    return child.exitcode != 0


def _work(wish: Path, work: Callable[[], None]) -> None:
    os.environ[VARIABLE] = str(wish)
    work()
