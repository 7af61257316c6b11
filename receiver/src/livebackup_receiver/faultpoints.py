# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The step boundaries of sessions, receiver and storage daemons, for the fault suite.

Nothing happens unless the environment variable ``LIVEBACKUP_FAULTPOINT`` names a file that holds
``<point>#<hit> <action>``. When the actor is there for that time since the file was made, it is
killed, stopped (``hang``) or fails with an I/O error (``error``), and the file is renamed to
``*.struck``. Operators never set it; ``make faults`` does.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "LIVEBACKUP_FAULTPOINT"

# When a run of a session over two hosts passes a boundary: without any fault, when a participant
# fails, or when the receiver starts after it was killed; or when layers are merged. In the order of passing.
RUN, ABORT, RESTART, MERGE = "run", "abort", "restart", "merge"
POINTS: Mapping[str, str] = {
    "session.opened": RUN,
    "session.joined": RUN,
    "session.planned": RUN,
    "session.intake-open": RUN,
    "session.preparing": RUN,
    "session.stopping": RUN,
    "session.cutting": RUN,
    "session.transferring": RUN,
    "session.sealing": RUN,
    "session.flushed": RUN,
    "session.intake-closed": RUN,
    "session.layer-synced": RUN,
    "session.layer-checked": RUN,
    "session.manifest-written": RUN,
    "session.layer-renamed": RUN,
    "session.sealed": RUN,
    "session.commit-begun": RUN,
    "session.commit-written": RUN,
    "session.committed": RUN,
    "session.cleared": RUN,
    "session.abort-entered": ABORT,
    "session.performance-ended": ABORT,
    "session.files-removed": ABORT,
    "receiver.judged": RUN,
    "receiver.note-begun": RUN,
    "receiver.joined-taken": RUN,
    "receiver.joined-answered": RUN,
    "receiver.prepared-taken": RUN,
    "receiver.prepared-answered": RUN,
    "receiver.stopped-taken": RUN,
    "receiver.stopped-answered": RUN,
    "receiver.cut-taken": RUN,
    "receiver.cut-answered": RUN,
    "receiver.transferring-taken": RUN,
    "receiver.transferring-answered": RUN,
    "receiver.transferred-taken": RUN,
    "receiver.transferred-answered": RUN,
    "receiver.finished-taken": RUN,
    "receiver.finished-answered": RUN,
    "receiver.failed-taken": ABORT,
    "receiver.failed-answered": ABORT,
    "receiver.recovering": RESTART,
    "receiver.sessions-interrupted": RESTART,
    "receiver.leftovers-removed": RESTART,
    "storage-daemon.started": RUN,
    "storage-daemon.listening": RUN,
    "storage-daemon.layers-created": RUN,
    "storage-daemon.layers-exported": RUN,
    "storage-daemon.transferring": RUN,
    "storage-daemon.transferred": RUN,
    "storage-daemon.exports-closed": RUN,
    "storage-daemon.flushed": RUN,
    "storage-daemon.layers-closed": RUN,
    "chain.intent-written": MERGE,
    "chain.appended": MERGE,
    "chain.flipped": MERGE,
    "chain.merged": MERGE,
    "chain.layer-replaced": MERGE,
    "chain.table-replaced": MERGE,
    "chain.manifest-replaced": MERGE,
    "chain.catalog-written": MERGE,
    "chain.layers-forgotten": MERGE,
    "chain.merged-removed": MERGE,
}

_hits: Counter[str] = Counter()


def reached(point: str, *, process: int | None = None) -> None:
    """An actor is at this boundary.

    :param process: the id of its process, if it is not this one
    :raise OSError: the suite wants it to fail here
    """
    wish = _wish()
    if wish is None:
        _hits.clear()
        return
    _hits[point] += 1
    where, action = wish.read_text().split()
    if where == f"{point}#{_hits[point]}":
        wish.rename(f"{wish}.struck")
        _strike(action, os.getpid() if process is None else process)


def _wish() -> Path | None:
    path = os.environ.get(VARIABLE)
    return Path(path) if path and Path(path).exists() else None


def _strike(action: str, process: int) -> None:
    if action == "error":
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    os.kill(process, signal.SIGKILL if action == "kill" else signal.SIGSTOP)
    if process == os.getpid():
        # The main thread is stopped first; another one would go on for a moment.
        time.sleep(1.0)
