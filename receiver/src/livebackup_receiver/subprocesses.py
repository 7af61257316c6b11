# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one door through which the receiver starts other programs.

Argument lists only, no shell; output in plain C locale; nothing is read from the terminal; what a
program says on stderr is kept for the error.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Sequence
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
STDERR_LIMIT = 4000
# The shell's word for "no such program", which asyncio tells by an exception instead.
NOT_FOUND = 127
KILLED = -9


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


async def spawn(
    argv: Sequence[str], *, stderr: IO[bytes], pass_fds: Sequence[int] = ()
) -> asyncio.subprocess.Process:
    """Start a program that runs on; it is killed by the kernel if the receiver dies.

    :param stderr: where its messages go
    :param pass_fds: descriptors it inherits under the same numbers
    :raise CommandFailed: it cannot be started
    """
    guarded = ["setpriv", "--pdeathsig", "KILL", "--", *argv]
    return await _start(guarded, stdin=None, stderr=stderr.fileno(), pass_fds=pass_fds)


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
    stderr: int = asyncio.subprocess.PIPE,
    pass_fds: Sequence[int] = (),
) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin,
            stdout=asyncio.subprocess.PIPE
            if stderr == asyncio.subprocess.PIPE
            else asyncio.subprocess.DEVNULL,
            stderr=stderr,
            env=ENVIRONMENT | {"TMPDIR": os.environ.get("TMPDIR", "/tmp")},
            pass_fds=pass_fds,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise CommandFailed(shlex.join(argv), NOT_FOUND, f"{argv[0]} is not installed") from None


def _tail(output: bytes) -> str:
    return output[-STDERR_LIMIT:].decode(errors="replace").strip()
