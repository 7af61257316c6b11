# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting a guest on the disks of a point, whose layers are held and served to it for reading."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path

from livebackup_receiver import subprocesses
from livebackup_receiver.browse.appliance import make_appliance
from livebackup_receiver.browse.guest import USUAL, Guest, Limits
from livebackup_receiver.config import Config
from livebackup_receiver.exports import Wanted
from livebackup_receiver.restore import check_layers
from livebackup_receiver.storage_daemon.local import local_exports
from livebackup_receiver.store import access

SOCKET = "nbd.sock"
WORKER = "livebackup_receiver.browse.worker"
LIBRARY_PATH = Path(__file__).parents[2]


@asynccontextmanager
async def open_guest(wanted: Wanted, config: Config, limits: Limits = USUAL) -> AsyncIterator[Guest]:
    """A guest that shows the disks of a VM at a point; it is gone when the block ends.

    :raise BrowseUnavailable: this machine lacks something
    :raise BrowseFailed: the guest does not start
    :raise LayerDamaged: a layer is missing, or its chain leads elsewhere than it should
    :raise StorageDaemonFailed: the disks cannot be served
    :raise KeyMissing: a layer is encrypted, and its key was not given
    """
    appliance = await make_appliance(config.browse_cache)
    async with AsyncExitStack() as stack:
        own = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="livebackup-")))
        private = own / "guest"
        private.mkdir()
        chains = list(wanted.chains.values())
        with ExitStack() as names:
            layers = [layer for chain in chains for layer in chain]
            directories = {layer.parent for layer in layers if layer.parent.is_dir()}
            await asyncio.to_thread(names.enter_context, access.opening(directories))
            stack.enter_context(access.reading(layers))
            wanted.recheck()
            for chain in chains:
                check_layers(chain)
            served = local_exports(
                f"the files of VM {wanted.vm} at point {wanted.point}",
                {disk: chain[0] for disk, chain in wanted.chains.items()},
                directory=own,
                name=SOCKET,
                run=own,
                timeout_s=config.storage_daemon_timeout_s,
            )
            exports = await stack.enter_async_context(served)
        process = await _spawn(appliance, private, own / "stderr")
        guest = Guest(wanted, process, limits)
        stack.push_async_callback(guest.close)
        await guest.start(exports=tuple(exports.names.values()), socket=own / SOCKET, appliance=appliance)
        yield guest


async def _spawn(appliance: Path, private: Path, stderr: Path) -> asyncio.subprocess.Process:
    argv = [sys.executable, "-m", WORKER, str(appliance), str(private)]
    places = ("TMPDIR", "XDG_RUNTIME_DIR", "LIBGUESTFS_TMPDIR", "LIBGUESTFS_CACHEDIR", "HOME")
    environment = {place: str(private) for place in places} | {"PYTHONPATH": str(LIBRARY_PATH)}
    with stderr.open("wb") as file:
        return await subprocesses.converse(argv, stderr=file, environment=environment)
