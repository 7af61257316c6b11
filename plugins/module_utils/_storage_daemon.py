# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A qemu-storage-daemon for the images of a VM that does not run. For internal use of livebackup.qemu only.

It has no socket in the file system and no server: its monitor is one end of a socket pair. Connections it
needs are passed when it starts, since it knows no ``getfd``. It holds QEMU's image locks, which would keep
the VM from starting, so it gets SIGTERM when this process dies, and leaves in an orderly way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.livebackup.qemu.plugins.module_utils import _process
from ansible_collections.livebackup.qemu.plugins.module_utils._deps import QMPClient, QMPError
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    LivebackupError,
    MonitorError,
    ProgramFailed,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._qmp import Monitor

PROGRAM = "qemu-storage-daemon"
START_SECONDS = 20.0
QUIT_SECONDS = 20.0


@dataclass
class StorageDaemon:
    """A daemon that runs. Make it with ``start``."""

    process: asyncio.subprocess.Process
    monitor: Monitor

    async def end(self) -> None:
        """Let it store its bitmaps and leave; repeating it is harmless. One that hangs is killed."""
        if self.process.returncode is None:
            with contextlib.suppress(LivebackupError):
                await self.monitor.execute("quit", timeout=QUIT_SECONDS)
            # it has hung before with its monitor closed too early
            await _process.end(self.process, QUIT_SECONDS)
        await self.monitor.close()


async def start(vm: str, arguments: Sequence[str] = (), pass_fds: Sequence[int] = ()) -> StorageDaemon:
    """Start a daemon.

    Raises DependencyError if there is none on this host, ProgramFailed if it refuses its arguments.
    """
    ours, theirs = socket.socketpair()
    chardev = ["--chardev", f"socket,id=qmp,fd={theirs.fileno()}", "--monitor", "chardev=qmp"]
    try:
        process = await _process.start([PROGRAM, *chardev, *arguments], pass_fds=(theirs.fileno(), *pass_fds))
    finally:
        theirs.close()
    ours.setblocking(False)
    client = QMPClient(vm)
    monitor = Monitor(client, f"the storage daemon of VM {vm}", (os.geteuid(), os.getegid()))
    monitor.vm = vm
    try:
        await asyncio.wait_for(client.connect(ours), START_SECONDS)
    except (asyncio.TimeoutError, QMPError, OSError, EOFError) as error:
        ours.close()
        raise await _failure(vm, process) from error
    return StorageDaemon(process, monitor)


async def _failure(vm: str, process: asyncio.subprocess.Process) -> MonitorError | ProgramFailed:
    await _process.end(process, 0.0)
    said = (await process.stderr.read()).decode(errors="replace").strip() if process.stderr else ""
    return ProgramFailed(
        f"VM {vm}: {PROGRAM} did not start: {said or 'it did not answer'}; look whether the receiver's "
        f"storage daemon does.",
        vm=vm,
        reason=said,
    )
