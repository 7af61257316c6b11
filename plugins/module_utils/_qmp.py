# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""One QMP connection. For internal use of livebackup.qemu only.

The options are documented in doc_fragments/_qmp.py; a unit test compares the two.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket as sockets
import struct
from collections.abc import AsyncIterator
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils._deps import (
    ExecuteError,
    QMPClient,
    QMPError,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    CommandRefused,
    MonitorError,
    MonitorLost,
    MonitorSilent,
    SocketAbsent,
    SocketBusy,
    VmNotRunning,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._names import PREFIX

ARGUMENTS: dict[str, Any] = {
    "qmp_sockets": {"type": "list", "elements": "path", "default": ["/run/qemu/*.qmp"]},
    "qmp_timeout": {"type": "float", "default": 5.0},
}

COMMAND_TIMEOUT = 30.0
_JOB_EVENT = "JOB_STATUS_CHANGE"


class Monitor:
    """A connected QMP socket. Make it with ``connect``; ``vm`` names the VM in every error."""

    def __init__(self, client: Any, socket: str, owner: tuple[int, int]) -> None:
        self.socket = socket
        self.vm = socket
        self.owner = owner
        self.sent: list[dict[str, Any]] = []
        self.capabilities: frozenset[str] = frozenset()
        self._client = client
        self._passing = asyncio.Lock()

    async def execute(
        self, command: str, arguments: dict[str, Any] | None = None, *, timeout: float = COMMAND_TIMEOUT
    ) -> Any:
        """Run one QMP command and return what QEMU returned.

        Raises CommandRefused if QEMU says no, MonitorLost if the connection ended (the command may or may
        not have been executed), MonitorSilent if there was no answer within ``timeout`` seconds.
        """
        if not command.startswith("query-"):
            self.sent.append({"execute": command, **({"arguments": arguments} if arguments else {})})
        try:
            return await asyncio.wait_for(self._client.execute(command, arguments), timeout)
        except (asyncio.TimeoutError, QMPError, EOFError, OSError) as error:
            raise self._failure(command, timeout, error) from error

    def _failure(self, command: str, timeout: float, error: Exception) -> MonitorError:
        facts = {"vm": self.vm, "socket": self.socket, "command": command}
        if isinstance(error, ExecuteError):
            return CommandRefused(
                f"VM {self.vm}: QEMU refused {command}: {error}.", **facts, reason=str(error)
            )
        if isinstance(error, asyncio.TimeoutError):
            return MonitorSilent(
                f"VM {self.vm}: QEMU did not answer {command} within {timeout:g} seconds; look whether the "
                f"process behind {self.socket} hangs.",
                **facts,
            )
        return MonitorLost(
            f"VM {self.vm}: its QMP connection ended during {command}; look whether its QEMU still runs.",
            **facts,
        )

    async def transaction(self, actions: list[dict[str, Any]]) -> None:
        """Run actions all or none (QAPI ``transaction``); nothing is sent for an empty list."""
        if actions:
            await self.execute("transaction", {"actions": actions})

    async def unless_refused(self, command: str, arguments: dict[str, Any]) -> bool:
        """Run a command whose refusal only means that there is nothing to do; return whether it ran."""
        try:
            await self.execute(command, arguments)
        except CommandRefused:
            return False
        return True

    def send_fd(self, fd: int) -> None:
        """Pass a file descriptor; the next ``getfd`` or ``add-fd`` takes it."""
        self._client.send_fd_scm(fd)

    async def pass_fd(self, fd: int, command: str, arguments: dict[str, Any]) -> Any:
        """Run the command that takes this descriptor; one after the other, as QEMU keeps only the last."""
        async with self._passing:
            self.send_fd(fd)
            return await self.execute(command, arguments)

    async def job_event(self) -> None:
        """Return when the status of one of our jobs has changed."""

        def ours(event: Any) -> bool:
            return str(event["data"]["id"]).startswith(PREFIX)

        with self._client.listener(_JOB_EVENT, ours) as listener:
            await listener.get()

    async def close(self) -> None:
        """Hang up; never raises, and does not wait for a QEMU that hangs."""
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._client.disconnect(), 2.0)


@contextlib.asynccontextmanager
async def connected(socket: str, timeout: float) -> AsyncIterator[Monitor]:
    """``connect`` that hangs up at the end."""
    monitor = await connect(socket, timeout)
    try:
        yield monitor
    finally:
        await monitor.close()


async def connect(socket: str, timeout: float) -> Monitor:
    """Open a QMP socket.

    Raises SocketAbsent, VmNotRunning (nobody listens), SocketBusy (no greeting within ``timeout`` seconds) or
    MonitorError.
    """
    stream = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    stream.setblocking(False)
    client = QMPClient(socket)
    try:
        stream.connect(socket)
        owner = _owner(stream)
        await asyncio.wait_for(client.connect(stream), timeout)
    except (asyncio.TimeoutError, QMPError, OSError) as error:
        stream.close()
        raise _connect_error(socket, error) from error
    return Monitor(client, socket, owner)


def _owner(stream: sockets.socket) -> tuple[int, int]:
    """User and group of the process at the other end, as it runs now (it may have dropped root since)."""
    credentials = stream.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, gid = struct.unpack("3i", credentials)
    with contextlib.suppress(OSError):
        process = os.stat(f"/proc/{pid}")
        return process.st_uid, process.st_gid
    return uid, gid


def _connect_error(socket: str, error: Exception) -> MonitorError:
    cause = getattr(error, "exc", error)
    if isinstance(cause, FileNotFoundError):
        return SocketAbsent(
            f"QMP socket {socket} does not exist; start the VM or correct qmp_sockets.", socket=socket
        )
    if isinstance(cause, ConnectionRefusedError):
        return VmNotRunning(
            f"The VM of QMP socket {socket} is not running: nobody listens there; start the VM.",
            socket=socket,
        )
    # a full backlog answers EAGAIN
    if isinstance(cause, (asyncio.TimeoutError, BlockingIOError)):
        return SocketBusy(
            f"QMP socket {socket} is busy: another client (libvirt, another backup) holds it; give "
            "Livebackup a QMP socket of its own or wait until the other client has disconnected.",
            socket=socket,
        )
    return MonitorError(
        f"QMP socket {socket} cannot be used: {cause}; check that it is a QMP socket and that this user may "
        "open it.",
        socket=socket,
    )
