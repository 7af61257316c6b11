# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A disk of a restore point, read from the receiver with libnbd. For internal use of livebackup.qemu only.

Part of what nbdkit runs, see ``_tender_plugin``. Requests are made in one thread for each disk, which alone
touches its connection; the threads of nbdkit wait.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import http.client
import json
import os
import select
import ssl
import sys
import threading
import time
import urllib.parse
from typing import Any

# the map of so much is asked for at once, as QEMU asks for 512 KiB
MAP_BYTES = 256 << 20
SLICE_SECONDS = 0.25
RETRY_SECONDS = 0.25
# each attempt may cost the receiver a storage daemon
MOST_SECONDS = 4.0
DEFAULT_PORT = 8440

Facts = dict[str, Any]


def say(words: str) -> None:
    """To the journal."""
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


class Lease:
    """Exports by the lease's secret; shared by all disks, since a fresh export ends the one before."""

    def __init__(self, facts: Facts) -> None:
        parts = urllib.parse.urlsplit(facts["receiver_url"])
        self.host = parts.hostname or ""
        self._port = parts.port or DEFAULT_PORT
        self._tls = ssl.create_default_context(cadata=facts["ca"])
        self._path = f"/api/v1/leases/{facts['lease']}/exports"
        self._headers = {"Authorization": f"Bearer {facts['secret']}"}
        self._timeout = facts["stall_s"]
        self._lock = threading.Lock()
        self._made = 0
        self._export: Facts = {}

    def newer_than(self, used: int) -> tuple[int, Facts]:
        """An export, and its number, greater than ``used``. Raises OSError, HTTPException, ValueError."""
        with self._lock:
            if self._made <= used:
                self._export = self._ask()
                self._made += 1
            return self._made, self._export

    def _ask(self) -> Facts:
        connection = http.client.HTTPSConnection(
            self.host, self._port, timeout=self._timeout, context=self._tls
        )
        try:
            connection.request("POST", self._path, headers=self._headers)
            answer = connection.getresponse()
            body: Facts = json.loads(answer.read())
            if answer.status != http.client.CREATED:
                raise OSError(body["error"]["message"])
            return body
        finally:
            connection.close()


class Vm:
    """What the links and the VM's side tell each other.

    ``failed_at``: when an error was answered, at which the VM pauses. ``patient``: a device of the VM would
    hand an error to the guest, so none is answered.
    """

    def __init__(self) -> None:
        self.failed_at: float | None = None
        self.patient = False


class Request:
    """What a thread of nbdkit waits for: ``count`` bytes of data, or their extents."""

    def __init__(self, offset: int, count: int, wants_map: bool = False) -> None:
        self.offset = offset
        self.count = count
        self.wants_map = wants_map
        self.begun = time.monotonic()
        self.done = threading.Event()
        self.failed = False
        self.buffer: Any = None
        # length and flags, alternating
        self.entries: list[int] = []


class Link(threading.Thread):
    """One disk's connection, made again and again; ``outage`` is when it began to be of no use."""

    def __init__(self, name: str, size: int, lease: Lease, facts: Facts, vm: Vm) -> None:
        super().__init__(name=name, daemon=True)
        self.size = size
        self.outage: float | None = time.monotonic()
        self._lease = lease
        self._facts = facts
        self._vm = vm
        self._used = 0
        self._said = ""
        self._pause = RETRY_SECONDS
        self._waiting: collections.deque[Request] = collections.deque()
        self._flying: list[Request] = []
        self._finished: list[tuple[Request, int]] = []
        self._active = 0.0
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._map: tuple[int, int, list[tuple[int, int]]] = (0, 0, [])

    def ask(self, request: Request) -> Request:
        """Have a request answered. Raises OSError if that cannot be done within the limit."""
        self._waiting.append(request)
        with contextlib.suppress(BlockingIOError):
            os.write(self._waker, b"!")
        while not request.done.wait(SLICE_SECONDS):
            if self._hopeless(request) and not self._vm.patient:
                request.failed = True
                request.done.set()
        if request.failed:
            self._vm.failed_at = time.monotonic()
            raise OSError(errno.EIO, "the receiver does not answer")
        return request

    def _hopeless(self, request: Request) -> bool:
        now, limit = time.monotonic(), self._facts["limit_s"]
        outage = self.outage
        return (outage is not None and now - outage > limit) or now - request.begun > 3 * limit

    def extents(self, offset: int, count: int) -> list[tuple[int, int]]:
        """Length and flags of what follows each other from ``offset`` on, perhaps beyond ``count``."""
        start, end, known = self._map
        if not start <= offset < end:
            asked = self.ask(Request(offset, min(MAP_BYTES, self.size - offset), wants_map=True))
            known = list(zip(asked.entries[::2], asked.entries[1::2])) or [(count, 0)]
            start, end = offset, offset + sum(length for length, dummy in known)
            self._map = (start, end, known)
        found = []
        for length, flags in known:
            if start + length > offset:
                found.append((start + length - max(start, offset), flags))
            start += length
            if start >= offset + count:
                break
        return found

    def run(self) -> None:
        """Serve for ever."""
        while True:
            try:
                self._serve(self._connect())
            except Exception as error:
                self._lose(error)
            time.sleep(self._pause)
            self._pause = min(2 * self._pause, MOST_SECONDS)

    def _lose(self, error: Exception) -> None:
        if self.outage is None:
            self.outage = self._active if self._flying else time.monotonic()
        words = str(error) or type(error).__name__
        if words != self._said:
            self._said = words
            say(f"disk {self.name}: the receiver is lost: {words}")
        self._waiting.extendleft(reversed(self._flying))
        self._flying, self._finished = [], []

    def _connect(self) -> Any:
        import nbd

        self._used, export = self._lease.newer_than(self._used)
        name = next(disk["export"] for disk in export["disks"] if disk["disk"] == self.name)
        handle = nbd.NBD()
        handle.set_export_name(name)
        handle.add_meta_context("base:allocation")
        handle.set_tls(nbd.TLS_REQUIRE)
        handle.set_tls_username(export["transport"]["psk_username"])
        deadline = time.monotonic() + self._facts["stall_s"]
        with key_file(f"{self._facts['socket']}.{self.name}.psk", export["transport"]) as path:
            handle.set_tls_psk_file(path)
            handle.aio_connect_tcp(self._lease.host, str(export["transport"]["port"]))
            while handle.aio_is_connecting():
                self._turn(handle, deadline)
        if handle.get_size() != self.size:
            raise OSError(f"it has {handle.get_size()} bytes, not {self.size}")
        self._probe(handle, deadline)
        say(f"disk {self.name}: reading from {self._lease.host}")
        self.outage = None
        self._said, self._pause = "", RETRY_SECONDS
        return handle

    def _probe(self, handle: Any, deadline: float) -> None:
        """See that it does not only listen."""
        self._submit(handle, Request(0, min(512, self.size)))
        while self._flying:
            self._turn(handle, deadline)

    def _serve(self, handle: Any) -> None:
        while True:
            while self._waiting:
                request = self._waiting.popleft()
                if not request.done.is_set():
                    self._submit(handle, request)
            stall = self._active + self._facts["stall_s"] if self._flying else time.monotonic() + 60
            self._turn(handle, stall, idle=not self._flying)

    def _submit(self, handle: Any, request: Request) -> None:
        import nbd

        if not self._flying:
            self._active = time.monotonic()
        self._flying.append(request)

        # what an earlier connection says when it is closed is of no interest
        finished = self._finished

        def completed(error: Any) -> int:
            finished.append((request, error.value if hasattr(error, "value") else error))
            return 1

        if request.wants_map:
            request.entries = []
            if handle.can_meta_context("base:allocation"):

                def found(dummy_context: str, dummy_offset: int, entries: list[int], dummy_error: Any) -> int:
                    request.entries = list(entries)
                    return 0

                handle.aio_block_status(request.count, request.offset, found, completed)
            else:
                finished.append((request, 0))
        else:
            request.buffer = nbd.Buffer(request.count)
            handle.aio_pread(request.buffer, request.offset, completed)

    def _turn(self, handle: Any, deadline: float, *, idle: bool = False) -> None:
        """One step of the connection. Raises OSError if it ended, or stood still until ``deadline``."""
        direction = handle.aio_get_direction()
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        poll.register(handle.aio_get_fd(), events_of(direction))
        for descriptor, events in poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            if descriptor == self._wake:
                os.read(self._wake, 4096)
            elif events & (select.POLLIN | select.POLLHUP | select.POLLERR) and direction & 1:
                handle.aio_notify_read()
            elif direction & 2:
                handle.aio_notify_write()
        if handle.aio_is_dead() or handle.aio_is_closed():
            raise OSError("the connection ended")
        self._settle()
        if not idle and time.monotonic() > max(deadline, self._active + self._facts["stall_s"]):
            raise OSError(f"no progress for {self._facts['stall_s']:g} seconds")

    def _settle(self) -> None:
        for request, error in self._finished:
            self._active = time.monotonic()
            self._flying.remove(request)
            if error:
                say(f"disk {self.name}: the receiver cannot read at {request.offset}: {os.strerror(error)}")
            request.failed = bool(error) or request.failed
            request.done.set()
        self._finished.clear()


@contextlib.contextmanager
def key_file(path: str, transport: Facts) -> Any:
    """The file with the key, which libnbd reads while it connects."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{transport['psk_username']}:{transport['psk_key']}\n")
    try:
        yield path
    finally:
        os.unlink(path)


def events_of(direction: int) -> int:
    """What to poll for."""
    return (select.POLLIN if direction & 1 else 0) | (select.POLLOUT if direction & 2 else 0)
