# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running qemu-storage-daemon, spoken to over QMP.

Its monitor is one end of a socket pair, so there is no path to wait for and nobody else can connect.
The connection stays open until the process is gone: a daemon whose client left early may hang at
exit (QEMU 7.2).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qemu.qmp import EventListener, Message, QMPClient, QMPError
from qemu.qmp.qmp_client import ExecuteError

from livebackup_receiver import faultpoints, subprocesses
from livebackup_receiver.clock import now
from livebackup_receiver.completion import complete
from livebackup_receiver.errors import StorageDaemonFailed

log = logging.getLogger(__name__)

START_ATTEMPTS = 3
CONNECT_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 120.0
QUIT_TIMEOUT_S = 5.0
Options = Callable[[Path], Sequence[str]]


def no_options(directory: Path) -> Sequence[str]:
    """A daemon that is told everything over its monitor."""
    return ()


class StorageDaemon:
    """One qemu-storage-daemon; ``directory`` is private to it and goes with it."""

    def __init__(
        self,
        label: str,
        directory: Path,
        process: asyncio.subprocess.Process,
        qmp: QMPClient,
        timeout_s: float,
    ) -> None:
        """:param timeout_s: for each command"""
        self.label = label
        self.directory = directory
        self.process = process
        self._timeout_s = timeout_s
        self._qmp = qmp
        self._job_numbers = itertools.count()
        # What it was asked last, when, and whether it has answered.
        self.last_word = ("start", now(), True)

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Any:
        """Execute a QMP command and return its value.

        :raise StorageDaemonFailed: it refused, does not answer or is gone
        """
        limit_s = timeout_s or self._timeout_s
        self.last_word = (command, now(), False)
        try:
            async with asyncio.timeout(limit_s):
                value = await self._qmp.execute(command, arguments)
            self.last_word = (command, now(), True)
            return value
        except ExecuteError as error:
            raise self.failure(command, str(error)) from error
        except TimeoutError:
            raise self.failure(command, f"no answer for {limit_s:g} seconds") from None
        except QMPError as error:
            raise self.failure(command, self._last_words(error)) from error

    async def run_job(self, command: str, arguments: Mapping[str, Any]) -> None:
        """Execute a command that starts a job, such as ``blockdev-create``, and wait for its end.

        :raise StorageDaemonFailed: the command or the job failed
        """
        job = f"job-{next(self._job_numbers)}"
        with self._qmp.listener("JOB_STATUS_CHANGE", lambda event: _concludes(event, job)) as concluded:
            await self.execute(command, {"job-id": job, **arguments})
            await self._event(concluded, command)
        problems = [entry.get("error") for entry in await self.execute("query-jobs") if entry["id"] == job]
        await self.execute("job-dismiss", {"id": job})
        if any(problems):
            raise self.failure(command, str(problems[0]))

    async def quit(self) -> None:
        """End it in order; killed if it hangs, which is safe once its nodes are closed.

        :raise StorageDaemonFailed: it does not take the command
        """
        await self.execute("quit")
        try:
            async with asyncio.timeout(QUIT_TIMEOUT_S):
                await self.process.wait()
        except TimeoutError:
            log.warning("the storage daemon of %s hangs at exit and is killed", self.label)

    async def wait_dead(self) -> StorageDaemonFailed:
        """Wait until the process has ended; what to say about it if nobody asked for that."""
        end = subprocesses.describe_end(await self.process.wait())
        return self.failure("go on", f"it {end}{self._stderr()}")

    def reached(self, boundary: str) -> None:
        """Tell the fault suite where the daemon is.

        :raise StorageDaemonFailed: the suite wants it to fail here
        """
        try:
            faultpoints.reached(f"storage-daemon.{boundary}", process=self.process.pid)
        except OSError as error:
            raise self.failure("go on", str(error.strerror)) from None

    def failure(self, action: str, problem: str) -> StorageDaemonFailed:
        return StorageDaemonFailed(self.label, action, problem)

    async def _event(self, listener: EventListener, command: str) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await listener.get()
        except TimeoutError:
            raise self.failure(command, f"not done after {self._timeout_s:g} seconds") from None

    def _last_words(self, error: QMPError) -> str:
        returncode = self.process.returncode
        end = str(error) if returncode is None else f"it {subprocesses.describe_end(returncode)}"
        return end + self._stderr()

    def _stderr(self) -> str:
        text = (self.directory / "stderr").read_text(errors="replace").strip()
        return f" ({text[-subprocesses.STDERR_LIMIT :]})" if text else ""


@asynccontextmanager
async def storage_daemon(
    label: str,
    *,
    timeout_s: float = COMMAND_TIMEOUT_S,
    run: Path | None = None,
    options: Options = no_options,
    pass_fds: Sequence[int] = (),
) -> AsyncIterator[StorageDaemon]:
    """A qemu-storage-daemon of one's own; killed, if it has not quit, when the block ends.

    :param label: whose it is, for messages: "session 01J..."
    :param timeout_s: how long it may take for a command
    :param run: where its private directory is made, to be swept at the next start; None: the system's
        temporary directory
    :param options: its further command line, by its private directory
    :param pass_fds: descriptors it inherits under the same numbers
    :raise StorageDaemonFailed: it cannot be started
    """
    with tempfile.TemporaryDirectory(prefix="livebackup-", dir=run) as directory:
        start = _Start(label, Path(directory), timeout_s, options(Path(directory)), pass_fds)
        daemon = await start.insist()
        try:
            daemon.reached("started")
            yield daemon
        finally:
            await complete(_end(daemon))


@dataclass(frozen=True)
class _Start:
    """What it takes to start a daemon."""

    label: str
    directory: Path
    timeout_s: float
    options: Sequence[str]
    pass_fds: Sequence[int]

    async def insist(self) -> StorageDaemon:
        # QEMU 7.2's daemon crashes once in some thousand starts; nothing has been served yet then.
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                return await self._once()
            except StorageDaemonFailed as error:
                if attempt == START_ATTEMPTS:
                    raise
                log.warning("%s; trying again", error.cause)
        raise AssertionError("the last attempt returns or raises")

    async def _once(self) -> StorageDaemon:
        monitor, theirs = socket.socketpair()
        try:
            with theirs:
                process = await self._spawn(theirs)
            daemon = StorageDaemon(self.label, self.directory, process, QMPClient(self.label), self.timeout_s)
            return await _connect(daemon, monitor)
        except BaseException:
            monitor.close()
            raise

    async def _spawn(self, monitor: socket.socket) -> asyncio.subprocess.Process:
        chardev = f"socket,id=monitor,fd={monitor.fileno()}"
        argv = ["qemu-storage-daemon", "--chardev", chardev, "--monitor", "chardev=monitor", *self.options]
        with (self.directory / "stderr").open("wb") as stderr:
            return await subprocesses.spawn(argv, stderr=stderr, pass_fds=[monitor.fileno(), *self.pass_fds])


async def _connect(daemon: StorageDaemon, monitor: socket.socket) -> StorageDaemon:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await daemon._qmp.connect(monitor)
    except (QMPError, TimeoutError) as error:
        await complete(_end(daemon))
        raise daemon.failure("start", f"{error}{daemon._stderr()}") from error
    except BaseException:
        await complete(_end(daemon))
        raise
    return daemon


async def _end(daemon: StorageDaemon) -> None:
    await subprocesses.kill(daemon.process)
    # The connection breaks with the process, which disconnect() reports as an error.
    with suppress(QMPError, EOFError, OSError):
        await daemon._qmp.disconnect()


def _concludes(event: Message, job: str) -> bool:
    data = event["data"]
    return _is_about(event, job) and isinstance(data, dict) and data["status"] == "concluded"


def _is_about(event: Message, subject: str) -> bool:
    data = event["data"]
    return isinstance(data, dict) and data["id"] == subject
