# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The local image that keeps old data during a transfer. For internal use of livebackup.qemu only.

The file never has a name that outlives a crash: it is unlinked from the start and handed to QEMU as a file
descriptor set, so QEMU needs no access to the directory either.
"""

from __future__ import annotations

import os
import tempfile

from ansible_collections.livebackup.qemu.plugins.module_utils import _names, _process, _transactions
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    OptionError,
    ProgramFailed,
    ScratchUnusable,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._qmp import Monitor


async def attach(monitor: Monitor, *, index: int, size: int, directory: str) -> None:
    """Create a scratch image of ``size`` bytes in ``directory`` and add it to the VM as node
    ``lb-tmp-<index>``.

    QAPI: add-fd, blockdev-add. Raises OptionError if the directory cannot be used, ScratchUnusable,
    DependencyError, MonitorError.
    """
    try:
        file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed below, opened apart for its error
    except OSError as error:
        raise OptionError(
            f"The scratch directory {directory} cannot be used: {error.strerror}; create it or set "
            f"scratch_dir to another one.",
            scratch_dir=directory,
        ) from error
    with file:
        await _format(file.fileno(), size, directory)
        monitor.send_fd(file.fileno())
        answer = await monitor.execute("add-fd", {"opaque": _names.scratch(index)})
        await monitor.execute("blockdev-add", _transactions.scratch_node(index, answer["fdset-id"]))


async def _format(descriptor: int, size: int, directory: str) -> None:
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", f"/proc/self/fd/{descriptor}", str(size)]
    try:
        await _process.run(argv, pass_fds=(descriptor,))
    except ProgramFailed as error:
        cause = str(error.facts["reason"]).rpartition(": ")[2]
        raise ScratchUnusable(
            f"The scratch image in {directory} cannot be made: {cause}; set scratch_dir to a directory with "
            "more room.",
            scratch_dir=directory,
        ) from error


async def remove_fds(monitor: Monitor) -> None:
    """Close the descriptor sets of all scratch images. QAPI: query-fdsets, remove-fd."""
    for fdset in await monitor.execute("query-fdsets"):
        if any(fd.get("opaque", "").startswith(_names.PREFIX) for fd in fdset["fds"]):
            await monitor.unless_refused("remove-fd", {"fdset-id": fdset["fdset-id"]})


def free_bytes(directory: str) -> int:
    """Free space of the scratch directory in bytes."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize
