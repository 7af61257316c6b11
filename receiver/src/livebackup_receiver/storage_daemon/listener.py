# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The socket on which a storage daemon listens for NBD, opened before the daemon starts and passed to it.

QEMU 7.2's NBD server leaves Nagle's algorithm on: each of its short replies waits for the acknowledgement of
the one before, which makes requests of one cluster ten times as slow over TCP. Connections inherit
``TCP_NODELAY`` from the socket that accepts them, so it is set here.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from livebackup_receiver.errors import NoPortFree, StorageDaemonFailed
from livebackup_receiver.storage_daemon.ports import PortRange

ACTION = "listen for NBD"


@dataclass(frozen=True)
class Listener:
    """An open socket; its port is leased as long as the block of ``listener`` lasts."""

    port: int
    socket: socket.socket

    def close(self) -> None:
        """Leave the port to the daemon alone, so that it closes with it."""
        self.socket.close()


@contextmanager
def listener(label: str, *, ports: PortRange, listen: str) -> Iterator[Listener]:
    """Listen on a free port of the range.

    :param label: for whom, for messages: "session 01J..."
    :raise NoPortFree: every port of the range is taken
    :raise StorageDaemonFailed: the address cannot be used
    """
    with ports.lease() as candidates:
        for port in candidates:
            try:
                opened = _listen(listen, port)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                problem = f"nbd_listen {listen}: {os.strerror(error.errno or errno.EINVAL)}"
                raise StorageDaemonFailed(label, ACTION, problem) from error
            with opened:
                yield Listener(port, opened)
            return
        raise NoPortFree(label, ACTION, "every port of nbd_ports is in use")


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.create_server((address, port), family=family)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened
