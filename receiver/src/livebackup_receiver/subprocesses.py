# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one door through which the receiver starts other programs.

Argument lists only, no shell; output in plain C locale; nothing is read from the terminal; what a
program says on stderr is kept for the error. ``run`` and ``spawn`` are for the event loop, ``run_in_thread``
is for its threads.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from livebackup_receiver.errors import CommandFailed, CommandTimedOut

# System directories only: a virtual environment's python3 would break programs written in Python,
# which look for the distribution's one.
ENVIRONMENT = {
    "PATH": "/usr/bin:/usr/sbin:/bin:/sbin:/usr/local/bin:/usr/local/sbin",
    "LANG": "C",
    "LC_ALL": "C",
}
GUARD = ("setpriv", "--pdeathsig", "KILL", "--")
STDERR_LIMIT = 4000
# The shell's word for "no such program", which asyncio tells by an exception instead.
NOT_FOUND = 127
KILLED = -9
# Longer than any disk takes; a hung file system must not hold a thread for ever.
LONGEST_S = 7 * 24 * 3600.0
LOOK_S = 0.2


@dataclass(frozen=True)
class Completed:
    """A program that has ended."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


async def run(
    argv: Sequence[str], *, timeout_s: float, stdin: str | None = None, accept: Sequence[int] = (0,)
) -> Completed:
    """Run a program to its end.

    :param stdin: text for its standard input; None: there is none
    :param accept: the return codes that are no error
    :raise CommandFailed: it cannot be started, or ends with another code
    :raise CommandTimedOut: it was killed because it took longer than ``timeout_s``
    """
    process = await _start(argv, stdin=None if stdin is None else asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate(None if stdin is None else stdin.encode())
    except TimeoutError:
        raise CommandTimedOut(shlex.join(argv), KILLED, "", timeout_s) from None
    finally:
        await kill(process)
    completed = Completed(tuple(argv), process.returncode or 0, out.decode(), _tail(err))
    if completed.returncode not in accept:
        raise CommandFailed(shlex.join(argv), completed.returncode, completed.stderr)
    return completed


def run_in_thread(
    argv: Sequence[str], *, look: Callable[[], None] | None = None, timeout_s: float = LONGEST_S
) -> str:
    """Run a program to its end, which the calling thread waits for; what it says on stdout.

    :param look: called all the while; the program is killed if it raises anything
    :raise CommandFailed: it cannot be started, or ends with an error; some programs say on stdout which
    :raise CommandTimedOut: it was killed because it took longer than ``timeout_s``
    """
    _require_installed(argv)
    # The kernel kills it when this thread ends, not only when the receiver does; this thread waits for it.
    with subprocess.Popen(
        [*GUARD, *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
        start_new_session=True,
    ) as process:
        try:
            out, err = _communicate(process, argv, look, timeout_s)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise CommandFailed(shlex.join(argv), process.returncode, _tail(err) or _tail(out))
    return out.decode()


def _communicate(
    process: subprocess.Popen[bytes], argv: Sequence[str], look: Callable[[], None] | None, timeout_s: float
) -> tuple[bytes, bytes]:
    ends_at = time.monotonic() + timeout_s
    while (left_s := ends_at - time.monotonic()) > 0:
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=min(LOOK_S, left_s))
        if look is not None:
            look()
    raise CommandTimedOut(shlex.join(argv), KILLED, "", timeout_s)


def _require_installed(argv: Sequence[str]) -> None:
    if shutil.which(argv[0], path=ENVIRONMENT["PATH"]) is None:
        raise _not_installed(argv)


def _not_installed(argv: Sequence[str]) -> CommandFailed:
    return CommandFailed(shlex.join(argv), NOT_FOUND, f"{argv[0]} is not installed")


async def spawn(
    argv: Sequence[str],
    *,
    stderr: IO[bytes],
    pass_fds: Sequence[int] = (),
    stdout: int = asyncio.subprocess.DEVNULL,
) -> asyncio.subprocess.Process:
    """Start a program that runs on; it is killed by the kernel if the receiver dies.

    :param stderr: where its messages go
    :param pass_fds: descriptors it inherits under the same numbers
    :param stdout: where its output goes; a pipe, if the caller reads it
    :raise CommandFailed: it cannot be started
    """
    return await _start([*GUARD, *argv], stdin=None, stdout=stdout, stderr=stderr.fileno(), pass_fds=pass_fds)


async def converse(
    argv: Sequence[str], *, stderr: IO[bytes], environment: Mapping[str, str]
) -> asyncio.subprocess.Process:
    """Start a program that is spoken to over its standard input and output, in a session of its own.

    It is killed by the kernel if the receiver dies.

    :param environment: what it gets beside the usual
    :raise CommandFailed: it cannot be started
    """
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *GUARD,
        *argv,
        stdin=pipe,
        stdout=pipe,
        stderr=stderr,
        env=_environment() | dict(environment),
        start_new_session=True,
    )


async def kill_session(process: asyncio.subprocess.Process) -> None:
    """Make sure that a program of ``converse`` has ended, and with it all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def kill(process: asyncio.subprocess.Process) -> None:
    """Make sure that a program has ended."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def describe_end(returncode: int) -> str:
    """A return code in words."""
    return f"was killed by signal {-returncode}" if returncode < 0 else f"ended with {returncode}"


async def _start(
    argv: Sequence[str],
    *,
    stdin: int | None,
    stdout: int = asyncio.subprocess.PIPE,
    stderr: int = asyncio.subprocess.PIPE,
    pass_fds: Sequence[int] = (),
) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin,
            stdout=stdout,
            stderr=stderr,
            env=_environment(),
            pass_fds=pass_fds,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise _not_installed(argv) from None


def _environment() -> dict[str, str]:
    return ENVIRONMENT | {"TMPDIR": os.environ.get("TMPDIR", "/tmp")}


def _tail(output: bytes) -> str:
    return output[-STDERR_LIMIT:].decode(errors="replace").strip()
