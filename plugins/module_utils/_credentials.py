# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The session's key for NBD over TLS, on its way to a client. For internal use of livebackup.qemu only."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_PREFIX = "livebackup-key-"
# without ChaCha20, which is twice as slow where the CPU has AES instructions
PRIORITY = "NORMAL:-CHACHA20-POLY1305:+ECDHE-PSK:+DHE-PSK:+PSK"


@dataclass(frozen=True)
class Transport:
    """Where and with which key the receiver's storage daemon listens."""

    host: str
    port: int
    username: str
    key: str

    @classmethod
    def from_api(cls, host: str, transport: dict[str, Any]) -> Transport:
        """From the receiver's ``transport`` object; the host is the one of the receiver's URL."""
        return cls(
            host=host, port=transport["port"], username=transport["psk_username"], key=transport["psk_key"]
        )


@contextlib.contextmanager
def key_directory(transport: Transport, owner: tuple[int, int] | None = None) -> Iterator[str]:
    """A private directory with ``keys.psk``, readable by ``owner`` (uid, gid) alone; gone at the end.

    QEMU's client reads the file when the credentials object is made, never again.
    """
    with private_directory() as directory:
        path = os.path.join(directory, "keys.psk")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(f"{transport.username}:{transport.key}\n")
        if owner is not None and os.geteuid() == 0:
            os.chown(path, *owner)
            os.chown(directory, *owner)
        yield directory


@contextlib.contextmanager
def private_directory() -> Iterator[str]:
    """A directory for this process alone, never on a disk if that can be; gone at the end."""
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-", dir=_parent()) as directory:
        yield directory


def sweep() -> None:
    """Remove the private directories of processes that were killed."""
    for directory in glob.glob(os.path.join(_parent() or tempfile.gettempdir(), f"{_PREFIX}*-*")):
        owner = os.path.basename(directory)[len(_PREFIX) :].partition("-")[0]
        if owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            shutil.rmtree(directory, ignore_errors=True)


def _parent() -> str | None:
    # /run is never on a disk, and a QEMU with a private /tmp sees it too
    return "/run" if os.access("/run", os.W_OK) else None


def credentials(transport: Transport, object_id: str, directory: str) -> dict[str, Any]:
    """Properties of the ``tls-creds-psk`` object of a client (QAPI ``object-add``)."""
    return {
        "qom-type": "tls-creds-psk",
        "id": object_id,
        "endpoint": "client",
        "dir": directory,
        "username": transport.username,
        "priority": PRIORITY,
    }
