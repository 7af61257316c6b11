# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The TCP connection of one disk to the receiver. For internal use of livebackup.qemu only.

We open it, hand it to QEMU and keep a duplicate. A receiver that hangs (and still answers TCP) would make
every QMP command that drains, and with it the whole VM, wait for ever; ``job-cancel`` does not help and
``yank`` would only make QEMU reconnect to a socket it opened itself. Shutting our duplicate down always ends
the job.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ansible_collections.livebackup.qemu.plugins.module_utils._credentials import Transport
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import ReceiverUnreachable

CONNECT_TIMEOUT = 5.0
_POLL = 0.25

# struct tcp_info of linux/tcp.h: 8 single bytes, 24 words of 32 bits, then 64-bit counters
_LAST_RECEIVED = struct.Struct("@52xI")
_BYTES_ACKED = struct.Struct("@120xQ")


@dataclass(frozen=True)
class TcpInfo:
    """What the kernel knows of a connection: milliseconds since data came, bytes the peer acknowledged."""

    last_received_ms: int
    bytes_acked: int


class Channel:
    """One connection. ``expect`` and ``rest`` say whether an answer is due."""

    def __init__(self, stream: socket.socket) -> None:
        self.stalled = False
        # seconds on top of the limit for a job that is slow because it must be
        self.patience = 0.0
        self._socket = stream
        self._expecting_since: float | None = None

    def fileno(self) -> int:
        """The descriptor to hand to QEMU."""
        return self._socket.fileno()

    def expect(self) -> None:
        """From now on the receiver owes us data."""
        self._expecting_since = time.monotonic()

    def rest(self) -> None:
        """Nothing is due any more."""
        self._expecting_since = None

    def sent_bytes(self) -> int:
        """Bytes the receiver's kernel has acknowledged, TLS included."""
        return self._info().bytes_acked

    def shut_if_stalled(self, limit: float, now: float) -> None:
        """Shut the connection down if data was due for ``limit`` seconds and none came."""
        since = self._expecting_since
        limit += self.patience
        if since is not None and now - since > limit and self._info().last_received_ms > 1000 * limit:
            self.stalled = True
            self.shut()

    def shut(self) -> None:
        """End the connection in both directions, also for QEMU; repeating it is harmless."""
        self.rest()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give up our duplicate."""
        self._socket.close()

    def _info(self) -> TcpInfo:
        data = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
        return TcpInfo(_LAST_RECEIVED.unpack_from(data)[0], _BYTES_ACKED.unpack_from(data)[0])


def connect(transport: Transport, stall_limit: float) -> Channel:
    """Connect to the receiver's storage daemon. Raises ReceiverUnreachable."""
    try:
        stream = socket.create_connection((transport.host, transport.port), timeout=CONNECT_TIMEOUT)
    except OSError as error:
        raise ReceiverUnreachable(
            f"The receiver's storage daemon at {transport.host} port {transport.port} does not answer: "
            f"{error}; check that a firewall lets this host reach the receiver's NBD ports.",
            host=transport.host,
            port=transport.port,
        ) from error
    stream.settimeout(None)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # while a disk is being compared nothing is sent, and firewalls forget idle connections
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * stall_limit))
    return Channel(stream)


@contextlib.contextmanager
def watched(channels: list[Channel], limit: float) -> Iterator[None]:
    """Watch the channels in a thread of its own: the QMP side may be the very thing that is blocked.

    Channels may be added to the list while it is watched.
    """
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_POLL):
            for channel in list(channels):
                channel.shut_if_stalled(limit, time.monotonic())

    thread = threading.Thread(target=watch, name="livebackup-channels", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
