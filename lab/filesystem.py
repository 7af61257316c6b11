# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small file systems in a host, and full ones."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from lab.host import Host

Kind = Literal["ext4", "xfs", "tmpfs"]
BACKING = "/var/lib/livebackup-lab-filesystems"
FILLER = ".filler"


@contextmanager
def mounted(host: Host, path: str, *, size: int, kind: Kind = "ext4") -> Iterator[None]:
    """Within it, `path` of `host` is a file system of its own of `size` bytes (xfs: at least 300 MiB)."""
    host.run(["mkdir", "-p", path])
    host.run(["sh", "-euc", mount_script(path, size, kind)])
    try:
        yield
    finally:
        if host.running:
            host.run(["umount", "--lazy", path])
            host.run(["rm", "-f", backing(path)])


def fill(host: Host, path: str) -> None:
    """Use up the room of the file system that `path` is on. Meant for small ones only."""
    host.run(["dd", "if=/dev/zero", f"of={path}/{FILLER}", "bs=64k"], check=False)
    host.run(["sync", "-f", path])


def free(host: Host, path: str) -> None:
    """Give back what `fill` took."""
    host.run(["rm", "-f", f"{path}/{FILLER}"])


def backing(path: str) -> str:
    """The file that holds the file system mounted at `path`."""
    return f"{BACKING}/{path.strip('/').replace('/', '-')}.img"


def mount_script(path: str, size: int, kind: Kind) -> str:
    """Shell commands that make the file system and mount it."""
    target, image = shlex.quote(path), shlex.quote(backing(path))
    if kind == "tmpfs":
        return f"mount -t tmpfs -o size={size} tmpfs {target}"
    make = f"mkdir -p {BACKING}; truncate -s {size} {image}; mkfs.{kind} -q {image}"
    return f"{make}; mount -o loop {image} {target}"
