# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The step boundaries of a participant, at which the fault suite kills, hangs or fails it.

For internal use of livebackup.qemu only. Nothing happens unless the environment variable
``LIVEBACKUP_FAULTPOINT`` names a file that holds ``<point>#<hit> <action>``; the file is renamed to
``*.struck`` when the fault is there. Operators never set it; ``make faults`` does.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

from ansible_collections.livebackup.qemu.plugins.module_utils._errors import MonitorError

VARIABLE = "LIVEBACKUP_FAULTPOINT"

# Each boundary in the order of a run, and how often a run without faults passes it at least.
POINTS: dict[str, int] = {
    "participant.guarded": 1,
    "participant.found": 1,
    "participant.judged": 2,
    "participant.jobs-ended": 3,
    "participant.nodes-removed": 3,
    "participant.credentials-removed": 3,
    "participant.checkpoints-removed": 2,
    "participant.settled": 2,
    "participant.claimed": 1,
    "participant.joined": 1,
    "participant.planned": 1,
    "participant.credentials-made": 1,
    "participant.scratch-attached": 1,
    "participant.socket-handed": 1,
    "participant.receiver-attached": 1,
    "participant.prepared": 1,
    "participant.armed": 1,
    "participant.marked": 1,
    "participant.stopped": 1,
    "participant.cutting": 1,
    "participant.checkpoints-started": 1,
    "participant.filter-added": 1,
    "participant.device-switched": 1,
    "participant.snapshot-added": 1,
    "participant.cut": 1,
    "participant.hook-run": 1,
    "participant.resumed": 1,
    "participant.unmarked": 1,
    "participant.disarmed": 1,
    "participant.measured": 1,
    "participant.job-started": 1,
    "participant.transferring": 1,
    "participant.transferred": 1,
    "participant.finishing": 1,
    "participant.finished": 1,
}


_hits: Counter[str] = Counter()


def reached(point: str) -> None:
    """A participant is at this boundary. Raises MonitorError if that is what the suite wants here."""
    file = os.environ.get(VARIABLE)
    if file is None or not os.path.exists(file):
        return
    _hits[point] += 1
    with open(file, encoding="ascii") as wish:
        where, action = wish.read().split()
    if where == f"{point}#{_hits[point]}":
        os.rename(file, file + ".struck")
        _strike(point, action)


def _strike(point: str, action: str) -> None:
    if action == "error":
        raise MonitorError(f"The fault suite fails the participant at {point}.")
    os.kill(os.getpid(), signal.SIGKILL if action == "kill" else signal.SIGSTOP)
