# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections to NBD servers through libnbd. For internal use of livebackup.qemu only.

Every call waits for the server in short turns, so that another thread can stop it, and ``_channel`` can shut
down a connection on which nothing moves any more.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _channel, _deps
from ansible_collections.livebackup.qemu.plugins.module_utils._channel import Channel
from ansible_collections.livebackup.qemu.plugins.module_utils._credentials import Transport
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import DependencyError, LivebackupError
from ansible_collections.livebackup.qemu.plugins.module_utils._runs import Run

CLUSTER_BYTES = 65536
# requests on their way on one connection
DEPTH = 4
_TURN_MS = 500
_LOOK_BYTES = 1 << 30
_ZERO_BYTES = 1 << 30
_ZERO = 2

# what went wrong in words, and whether the server or the way to it is to blame and not a request
Explain = Callable[[str, bool], LivebackupError]


class Stopped(Exception):
    """Another thread has failed; nothing is wrong here."""


class Connection:
    """A connection to one export of ``size`` bytes, for one thread. Make it with ``remote`` or ``local``."""

    def __init__(
        self, handle: Any, stop: threading.Event, explain: Explain, channel: Channel | None = None
    ) -> None:
        self._handle = handle
        # a read that fails is an error here, so nobody sees what was in its buffer
        handle.set_pread_initialize(False)
        self._stop = stop
        self._explain = explain
        self._channel = channel
        self.size = 0

    def wait_ready(self) -> None:
        """Shake hands. Raises what ``explain`` makes of a failure."""
        with self._explained():
            while not self._handle.aio_is_ready():
                self._turn()
            self.size = self._handle.get_size()

    def read(self, runs: Iterator[Run]) -> Iterator[tuple[Run, memoryview]]:
        """The data of runs of clusters, in their order; some are asked for ahead."""
        flying: deque[tuple[Run, bytearray, int]] = deque()
        while True:
            while len(flying) < DEPTH:
                run = next(runs, None)
                if run is None:
                    break
                flying.append(self._ask(run))
            if not flying:
                return
            run, buffer, cookie = flying.popleft()
            self._complete(cookie)
            yield run, memoryview(buffer)

    def _ask(self, run: Run) -> tuple[Run, bytearray, int]:
        offset = run[0] * CLUSTER_BYTES
        buffer = bytearray(min(run[1] * CLUSTER_BYTES, self.size - offset))
        with self._explained():
            return run, buffer, self._handle.aio_pread(buffer, offset)

    def write(self, offset: int, data: memoryview) -> None:
        """Write, and wait until the server has it."""
        with self._explained():
            cookie = self._handle.aio_pwrite(data, offset)
        self._complete(cookie)

    def zero(self, offset: int, count: int) -> None:
        """Make zeros that take no room."""
        for start in range(offset, offset + count, _ZERO_BYTES):
            with self._explained():
                cookie = self._handle.aio_zero(min(_ZERO_BYTES, offset + count - start), start)
            self._complete(cookie)

    def data(self) -> list[Run]:
        """The runs of clusters in which there may be anything but zeros."""
        found: list[Run] = []

        def note(_context: str, offset: int, extents: list[int], _error: Any) -> int:
            for length, flags in zip(extents[::2], extents[1::2]):
                if not flags & _ZERO:
                    first = offset // CLUSTER_BYTES
                    found.append((first, -(-(offset + length) // CLUSTER_BYTES) - first))
                offset += length
                reached[0] = offset
            return 0

        reached = [0]
        while reached[0] < self.size:
            before = reached[0]
            with self._explained():
                count = min(_LOOK_BYTES, self.size - before)
                cookie = self._handle.aio_block_status(count, before, note)
            self._complete(cookie)
            if reached[0] == before:
                raise self._explain("it does not say where data is", False)
        return found

    def close(self) -> None:
        """Say good-bye, and do not wait for an answer."""
        with contextlib.suppress(Exception):
            if self._handle.aio_is_ready():
                self._handle.aio_disconnect(0)
        # the library has no other way to close it
        self._handle = None
        if self._channel is not None:
            self._channel.shut()
            self._channel.close()

    def _complete(self, cookie: int) -> None:
        with self._explained():
            if self._channel is not None:
                self._channel.expect()
            while not self._handle.aio_command_completed(cookie):
                self._turn()
            if self._channel is not None:
                self._channel.rest()

    def _turn(self) -> None:
        if self._stop.is_set():
            raise Stopped
        self._handle.poll(_TURN_MS)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except _error() as error:
            if self._stop.is_set():
                raise Stopped from error
            gone = not self._handle.aio_is_ready() and not self._handle.aio_is_processing()
            if self._channel is not None and self._channel.stalled:
                raise self._explain("it sends nothing any more", True) from error
            code = getattr(error, "errnum", None)
            raise self._explain(os.strerror(code) if code else str(error), gone or code in _GONE) from error


_GONE = (errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE, errno.ESHUTDOWN)


def _error() -> type[Exception]:
    found: type[Exception] = _deps.libnbd().Error
    return found


@contextlib.contextmanager
def remote(
    transport: Transport,
    export: str,
    key_directory: str,
    *,
    channels: list[Channel],
    limit: float,
    stop: threading.Event,
    explain: Explain,
) -> Iterator[Connection]:
    """A connection over TCP and TLS; ``channels`` are watched by the caller.

    Raises ReceiverUnreachable, DependencyError.
    """
    nbd = _deps.libnbd()
    handle = nbd.NBD()
    if not handle.supports_tls():
        raise DependencyError(
            "libnbd on this host was built without TLS, so nothing can be restored from a receiver; install "
            "the distribution's own libnbd.",
            library="libnbd",
        )
    handle.set_export_name(export)
    handle.set_tls(nbd.TLS_REQUIRE)
    handle.set_tls_username(transport.username)
    handle.set_tls_psk_file(os.path.join(key_directory, "keys.psk"))
    channel = _channel.connect(transport, limit)
    channels.append(channel)
    connection = Connection(handle, stop, explain, channel)
    try:
        channel.expect()
        # the library closes what it is given
        handle.aio_connect_socket(os.dup(channel.fileno()))
        connection.wait_ready()
        yield connection
    finally:
        channels.remove(channel)
        connection.close()


@contextlib.contextmanager
def local(path: str, export: str, *, stop: threading.Event, explain: Explain) -> Iterator[Connection]:
    """A connection to a UNIX socket; it can tell where data is."""
    handle = _deps.libnbd().NBD()
    handle.set_export_name(export)
    handle.add_meta_context("base:allocation")
    connection = Connection(handle, stop, explain)
    try:
        handle.aio_connect_unix(path)
        connection.wait_ready()
        yield connection
    finally:
        connection.close()
