# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network and a mount namespace of the suite's own, and what it breaks in them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INSIDE = "LIVEBACKUP_FAULTS_INSIDE"
TABLE = "livebackup_faults"
# of a hundred packets on a bad line
LOST_PERCENT = 30


def enter() -> None:
    """Start this program again in namespaces of its own, if it is not there yet."""
    if INSIDE in os.environ:
        return
    command = [
        "unshare",
        "--net",
        "--mount",
        "--propagation",
        "private",
        "--",
        sys.executable,
        "-m",
        "faults",
    ]
    os.execvpe(command[0], [*command, *sys.argv[1:]], os.environ | {INSIDE: "1"})


def prepare() -> None:
    """Bring up the loopback."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    heal_network()


def heal_network() -> None:
    """End every fault of the network."""
    _nft(f"add table ip {TABLE}\ndelete table ip {TABLE}\nadd table ip {TABLE}\n")
    _nft(f"add chain ip {TABLE} faults {{ type filter hook input priority 0; }}\n")


def cut(address: str) -> None:
    """Drop all that goes to and from an address."""
    _drop(f"ip daddr {address} drop", f"ip saddr {address} drop")


def half_open(address: str) -> None:
    """Drop what comes from an address: its peers send and never hear."""
    _drop(f"ip saddr {address} drop")


def lose(address: str) -> None:
    """Lose many packets to an address, which delays what they carry."""
    _drop(f"ip daddr {address} numgen random mod 100 < {LOST_PERCENT} drop")


@contextmanager
def small_file_system(directory: Path, size: int) -> Iterator[None]:
    """A file system of so many bytes."""
    directory.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "faults", str(directory)]
    subprocess.run(command, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(directory: Path) -> Path:
    """Take all room of a file system; remove the file to give it back."""
    filler = directory / "filler"
    with filler.open("wb") as file:
        status = os.statvfs(directory)
        os.posix_fallocate(file.fileno(), 0, max(1, status.f_bavail * status.f_frsize))
    return filler


def _drop(*rules: str) -> None:
    _nft("".join(f"add rule ip {TABLE} faults {rule}\n" for rule in rules))


def _nft(script: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=script, text=True, check=True)
