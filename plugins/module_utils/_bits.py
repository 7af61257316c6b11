# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bits of our choice in a dirty bitmap of a VM. For internal use of livebackup.qemu only.

QMP cannot set the bits of a bitmap. But writing to an image that has one does, so qemu-io writes zeros to an
image that nobody needs, outside of the VM, and the VM merges that image's bitmap into its own. The monitor
command qemu-io inside the VM would do too, but takes a hundred times as long, of which the guest gets a part.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable

from ansible_collections.livebackup.qemu.plugins.module_utils import _names, _process, _transactions
from ansible_collections.livebackup.qemu.plugins.module_utils._compare_plugin import CLUSTER_BYTES
from ansible_collections.livebackup.qemu.plugins.module_utils._plan import DiskPlan
from ansible_collections.livebackup.qemu.plugins.module_utils._qmp import Monitor
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Bitmap

# qemu-io takes no longer ones
_WRITE_BYTES = 1 << 30

Ranges = Iterable[tuple[int, int]]


async def merge(monitor: Monitor, plan: DiskPlan, directory: str, ranges: Ranges) -> None:
    """Set the bits of these ranges (offset and length in bytes) in the frozen bitmap of a disk's snapshot.

    There must be at least one. QAPI: add-fd, blockdev-add, block-dirty-bitmap-merge, blockdev-del, remove-fd.
    Raises ProgramFailed, DependencyError, MonitorError.
    """
    snapshot, bits = _names.node("snap", plan.index), _names.node("bits", plan.index)
    with tempfile.TemporaryFile(dir=directory) as file:
        path = f"/proc/self/fd/{file.fileno()}"
        await _make(path, file.fileno(), plan.disk.virtual_size, directory, ranges)
        # QEMU wants a descriptor that is open for reading only
        with open(path, "rb") as image:
            added = await monitor.pass_fd(image.fileno(), "add-fd", {"opaque": _names.scratch(plan.index)})
    await monitor.execute("blockdev-add", _transactions.bits_node(plan, added["fdset-id"]))
    merged = [Bitmap(bits, _names.FROZEN)]
    await monitor.transaction([_transactions.bitmap_merge(snapshot, _names.FROZEN, merged)])
    await monitor.execute("blockdev-del", {"node-name": bits})
    await monitor.unless_refused("remove-fd", {"fdset-id": added["fdset-id"]})


async def _make(path: str, descriptor: int, size: int, directory: str, ranges: Ranges) -> None:
    for command in (
        ["qemu-img", "create", "-q", "-f", "qcow2", path, str(size)],
        ["qemu-img", "bitmap", "--add", "-g", str(CLUSTER_BYTES), path, _names.FROZEN],
    ):
        await _process.run(command, pass_fds=(descriptor,))
    with tempfile.TemporaryFile(dir=directory) as commands:
        commands.writelines(f"{line}\n".encode() for line in writes(ranges))
        commands.seek(0)
        command = ["qemu-io", "-f", "qcow2", "-t", "unsafe", path]
        await _process.run(command, pass_fds=(descriptor,), stdin=commands.fileno())


def writes(ranges: Ranges) -> Iterable[str]:
    """Commands of qemu-io that write to these ranges. Pure."""
    for offset, length in ranges:
        for start in range(offset, offset + length, _WRITE_BYTES):
            yield f"write -q -z {start} {min(_WRITE_BYTES, offset + length - start)}"
