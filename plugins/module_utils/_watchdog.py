# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A second process that lets the VMs run again when this one cannot.

For internal use of livebackup.qemu only.

It is forked before any QMP connection exists (an inherited one would keep the socket busy) and hears from us
over a socket pair. If we die, it shuts the connections to the receiver down, so that a receiver that hangs
cannot hang a VM. If we die or take too long inside the stop window, it also makes the VMs run, after killing
us if need be: QEMU talks to one client at a time. For the same reason it kills us when we have hung for long:
the next backup could not reach the VMs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ansible_collections.livebackup.qemu.plugins.module_utils import _pause, _qmp
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    CutError,
    LivebackupError,
    SocketAbsent,
    VmNotRunning,
)

RESCUE_SECONDS = 120.0
_CONNECT_TIMEOUT = 2.0
_RETRY_SECONDS = 0.2
_MESSAGE_BYTES = 1 << 18
# in the time after which silence is a hang
_BEATS = 8


class Watchdog:
    """Our end. Make it with ``started``."""

    def __init__(self, link: socket.socket, silence: float) -> None:
        self._link = link
        self._silence = silence

    def arm(self, budget: float, vms: list[dict[str, Any]]) -> None:
        """From now on we have ``budget`` seconds to disarm; ``vms`` hold vm, socket and agent_path."""
        self._say({"budget": budget, "vms": vms})

    def keep(self, vms: list[dict[str, Any]]) -> None:
        """We have as long as we live to thaw these VMs; they run."""
        self._say({"budget": None, "vms": vms})

    def disarm(self) -> None:
        """All VMs run again."""
        self._say({"budget": None, "vms": []})

    @contextlib.asynccontextmanager
    async def heartbeat(self) -> AsyncIterator[None]:
        """Show that our event loop turns; without this we are killed when the time of silence is over."""

        async def beat() -> None:
            while True:
                await asyncio.sleep(self._silence / _BEATS)
                self._say({})

        beating = asyncio.ensure_future(beat())
        try:
            yield
        finally:
            beating.cancel()

    def hold(self, descriptor: int) -> None:
        """Shut this connection down should we die."""
        socket.send_fds(self._link, [b"{}"], [descriptor])

    def take_along(self, pid: int | None) -> None:
        """Kill this child of ours should we die; before Linux 5.3 only its own watch does that."""
        with contextlib.suppress(AttributeError, TypeError, OSError):
            descriptor = os.pidfd_open(pid)
            try:
                socket.send_fds(self._link, [b'{"process": true}'], [descriptor])
            finally:
                os.close(descriptor)

    def _say(self, message: dict[str, Any]) -> None:
        # without a watchdog no VM may be stopped, so a broken link is an error
        try:
            self._link.send(json.dumps(message).encode())
        except OSError as error:
            raise CutError(
                "The backup's watchdog process is gone, and without it no VM may be stopped; find out who "
                "killed it and repeat the backup."
            ) from error


@contextlib.contextmanager
def started(silence: float) -> Iterator[Watchdog]:
    """Fork the watchdog; at the end, or at our death, it leaves.

    If it hears nothing of us for ``silence`` seconds, it kills us. Call it before any thread
    or event loop runs.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _live(ours, theirs, parent, silence)
    theirs.close()
    try:
        yield Watchdog(ours, silence)
    finally:
        ours.close()
        os.waitpid(child, 0)


def _live(ours: socket.socket, theirs: socket.socket, parent: int, silence: float) -> NoReturn:
    """The child's whole life: whatever happens, it must not return into the parent's code."""
    try:
        _leave_parent_alone(ours, theirs)
        _serve(theirs, parent, silence)
    finally:
        os._exit(0)


def _leave_parent_alone(ours: socket.socket, theirs: socket.socket) -> None:
    """Keep nothing of the parent that somebody may be waiting for, nor die with its process group."""
    os.setsid()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    ours.close()
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2 and descriptor != theirs.fileno():
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _serve(link: socket.socket, parent: int, silence: float) -> None:
    vms, connections, processes = _listen(link, parent, silence)
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    for process in processes:
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
    if vms:
        asyncio.run(_rescue(vms))


@dataclass
class Watch:
    """What the watchdog knows of its parent; times are of ``time.monotonic``."""

    heard_at: float
    silence: float | None
    vms: list[dict[str, Any]] = field(default_factory=list)
    resume_by: float | None = None

    def take(self, message: dict[str, Any], now: float) -> None:
        """Follow one message of the parent."""
        self.heard_at = now
        if "budget" in message:
            self.vms = message["vms"]
            self.resume_by = None if message["budget"] is None else now + message["budget"]

    def deadline(self) -> float | None:
        """When the parent must be killed if nothing is heard until then."""
        deadlines = [self.resume_by, None if self.silence is None else self.heard_at + self.silence]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)


def _listen(
    link: socket.socket, parent: int, silence: float
) -> tuple[list[dict[str, Any]], list[socket.socket], list[int]]:
    """Follow the parent to its end; return the VMs it left stopped, its connections, its processes."""
    watch = Watch(time.monotonic(), silence)
    connections: list[socket.socket] = []
    processes: list[int] = []
    while True:
        deadline = watch.deadline()
        link.settimeout(None if deadline is None else max(0.001, deadline - time.monotonic()))
        try:
            data, descriptors = socket.recv_fds(link, _MESSAGE_BYTES, 1)[:2]
        except socket.timeout:
            watch.resume_by = watch.silence = None
            _kill(parent)
            continue
        except OSError:
            data = b""
        if not data:
            return watch.vms, connections, processes
        message = json.loads(data)
        if "process" in message:
            processes += descriptors
        else:
            connections += [socket.socket(fileno=descriptor) for descriptor in descriptors]
        watch.take(message, time.monotonic())


def _kill(parent: int) -> None:
    # a parent that is gone has been replaced by another one
    if os.getppid() == parent:
        os.kill(parent, signal.SIGKILL)


async def _rescue(vms: list[dict[str, Any]]) -> None:
    await asyncio.gather(*(_resume(time.monotonic() + RESCUE_SECONDS, **vm) for vm in vms))


async def _resume(deadline: float, *, vm: str, socket: str, agent_path: str | None) -> None:
    while time.monotonic() < deadline:
        try:
            async with _qmp.connected(socket, _CONNECT_TIMEOUT) as monitor:
                monitor.vm = vm
                return await _pause.resume_leftover(monitor, await _pause.objects(monitor), agent_path)
        except (SocketAbsent, VmNotRunning):
            return None
        except LivebackupError:
            await asyncio.sleep(_RETRY_SECONDS)
    return None
