# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plugin for nbdkit: the disks of a restore point, for a VM. For internal use of livebackup.qemu only.

nbdkit runs the text of this file, ``_tender_link`` and ``_tender_vm`` in a process of its own, which lives as
long as a VM reads from a point, so they import nothing else of the collection.

The VM must never hang because the receiver does: a connection that shows no progress is dropped, a fresh
export is asked for with the secret of the lease, and a read that cannot be answered within a limit fails
with EIO, at which the VM pauses (``rerror=stop``). When the receiver is back, the VM is told to go on. A VM
that would hand the error to its guest is never given one; its reads wait.
"""

from __future__ import annotations

import errno
import json
import os
import pathlib
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils._tender_link import (
    Facts,
    Lease,
    Link,
    Request,
    Vm,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._tender_vm import Watch

API_VERSION = 2
MAX_REQUEST = 2 << 20
ZERO = 2
HOLE = 1

_facts: Facts = {}
_links: dict[str, Link] = {}


def config(key: str, value: str) -> None:
    """``config``: the file of the tender's parameters; ``log``: where a daemon says things."""
    if key == "config":
        _facts.update(json.loads(pathlib.Path(value).read_text(encoding="utf-8")))
    elif key == "log":
        _facts[key] = value


def config_complete() -> None:
    """nbdkit: all options are known. What is missing on this host is said before anybody relies on us."""
    import nbd  # noqa: F401


def thread_model() -> int:
    """nbdkit: our threads look after themselves."""
    import nbdkit

    model: int = nbdkit.THREAD_MODEL_PARALLEL
    return model


def after_fork() -> None:
    """nbdkit: the socket is there, and threads may be started."""
    if _facts["owner"]:
        for path in (os.path.dirname(_facts["socket"]), _facts["socket"]):
            os.chown(path, *_facts["owner"])
    if "log" in _facts:
        # nbdkit has closed it
        os.dup2(os.open(_facts["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    lease, vm = Lease(_facts), Vm()
    for name, size in _facts["disks"].items():
        _links[name] = Link(name, size, lease, _facts, vm)
    for thread in (*_links.values(), Watch(_facts, vm, list(_links.values()))):
        thread.start()


def open(readonly: bool) -> Link:
    """nbdkit: a client; the export's name is the disk's."""
    import nbdkit

    return _links[nbdkit.export_name()]


def get_size(link: Link) -> int:
    """nbdkit: the disk's size."""
    return link.size


def block_size(link: Link) -> tuple[int, int, int]:
    """nbdkit: minimum, preferred, maximum size of a request."""
    return 1, 65536, MAX_REQUEST


def can_multi_conn(link: Link) -> bool:
    """nbdkit: what is read never changes."""
    return True


def can_extents(link: Link) -> bool:
    """nbdkit: there are extents."""
    return True


def pread(link: Link, buffer: Any, offset: int, flags: int) -> None:
    """nbdkit: data."""
    try:
        buffer[:] = link.ask(Request(offset, len(buffer))).buffer.to_bytearray()
    except OSError:
        _fail()
        raise


def extents(link: Link, count: int, offset: int, flags: int) -> list[tuple[int, int, int]]:
    """nbdkit: where data are.

    What is zero is called a hole and not zero: QEMU then takes it for not allocated, so block-stream leaves
    it out instead of writing zeros.
    """
    try:
        found = link.extents(offset, count)
    except OSError:
        _fail()
        raise
    listed = []
    for length, flags in found:
        listed.append((offset, length, HOLE if flags & ZERO else 0))
        offset += length
    return listed


def _fail() -> None:
    import nbdkit

    nbdkit.set_error(errno.EIO)
