# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What storage daemons of an earlier run may have left: processes, and directories with their keys.

The kernel kills a daemon whose receiver dies, unless that happens in the instant between the fork and
``setpriv``. So whoever has a file of the run directory as its stderr is looked for as well: the store is
locked, so nobody but an earlier run can have started it.
"""

from __future__ import annotations

import logging
import os
import select
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

END_TIMEOUT_S = 10.0


def sweep(run: Path) -> None:
    """Kill the daemons of an earlier run and remove everything in their run directory.

    :param run: the private directory below which each daemon has its own; it may not exist
    """
    for pid in _processes(run):
        _kill(pid, run)
    for path in sorted(run.iterdir()) if run.is_dir() else []:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        log.info("removed %s, which an earlier run has left", path)


def _processes(run: Path) -> list[int]:
    numbers = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [pid for pid in numbers if pid != os.getpid() and _belongs(pid, run)]


def _belongs(pid: int, run: Path) -> bool:
    """Whether a process has its stderr in the run directory; one of another user has not."""
    try:
        stderr = Path(f"/proc/{pid}/fd/2").readlink()
    except OSError:
        return False
    return stderr.is_relative_to(run.resolve())


def _kill(pid: int, run: Path) -> None:
    with suppress(ProcessLookupError), _handle(pid) as process:
        # The number may have gone to another process meanwhile; the handle keeps to one.
        if not _belongs(pid, run):
            return
        signal.pidfd_send_signal(process, signal.SIGKILL)
        ended, dummy, dummy = select.select([process], [], [], END_TIMEOUT_S)
        if ended:
            log.warning("killed process %d, a storage daemon that an earlier run has left", pid)
        else:
            log.error("process %d, a storage daemon of an earlier run, does not end; kill it", pid)


@contextmanager
def _handle(pid: int) -> Iterator[int]:
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
