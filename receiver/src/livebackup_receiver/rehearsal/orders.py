# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a receiver has a point rehearsed by a process of its own, which gives way to everything else."""

from __future__ import annotations

import sys
from typing import Any

from livebackup_receiver import subprocesses
from livebackup_receiver.model import Model
from livebackup_receiver.rehearsal.enclosure import PACKAGES

LONGEST_S = 24 * 3600.0
LEISURELY = ("nice", "-n", "19", "ionice", "-c", "3")
MODULE = ("-B", "-s", "-m", "livebackup_receiver.rehearsal")


class Orders(Model):
    """What the process gets on stdin; ``config`` are the options of the receiver that runs."""

    config: dict[str, Any]
    id: str
    point: str
    vms: list[str]


async def carry_out(orders: Orders) -> None:
    """Have it done; the process is killed if this is cancelled, and what it started with it.

    :raise CommandFailed: it did not get to a result
    :raise CommandTimedOut: likewise
    """
    program = ["env", f"PYTHONPATH={PACKAGES}", sys.executable, *MODULE]
    argv = [*subprocesses.GUARD, *LEISURELY, *program]
    await subprocesses.run(argv, timeout_s=LONGEST_S, stdin=orders.model_dump_json())
