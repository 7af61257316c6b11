# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The only place that starts programs. For internal use of livebackup.qemu only."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import os
import shlex
import signal
from collections.abc import Sequence

from ansible_collections.livebackup.qemu.plugins.module_utils._errors import DependencyError, ProgramFailed

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


async def run(
    argv: Sequence[str],
    *,
    pass_fds: Sequence[int] = (),
    env: dict[str, str] | None = None,
    timeout: float | None = None,
    stdin: int = asyncio.subprocess.DEVNULL,
) -> str:
    """Run a program to its end and return its standard output.

    ``env`` is added to a C locale; ``timeout`` in seconds; ``stdin`` is a descriptor. Raises DependencyError
    if there is no such program, ProgramFailed if it ends with an error or is killed because it took too long.
    """
    process = await start(argv, pass_fds=pass_fds, env=env, stdin=stdin)
    try:
        stdout, stderr = await asyncio.wait_for(process.communicate(), timeout)
    except asyncio.TimeoutError as error:
        raise _failed(argv, None, f"it did not end within {timeout:g} seconds and was killed") from error
    finally:
        await end(process, 0.0)
    if process.returncode:
        raise _failed(argv, process.returncode, stderr.decode(errors="replace").strip())
    return stdout.decode(errors="replace")


async def serve(
    argv: Sequence[str], *, stream: int, log: int, pass_fds: Sequence[int] = ()
) -> asyncio.subprocess.Process:
    """Start a program that serves on ``stream`` as its standard input and output; ``end`` it later.

    ``log`` gets its standard error. Raises DependencyError if there is no such program.
    """
    return await start(argv, pass_fds=pass_fds, stdin=stream, stdout=stream, stderr=log)


async def start(
    argv: Sequence[str],
    *,
    pass_fds: Sequence[int] = (),
    env: dict[str, str] | None = None,
    stdin: int = asyncio.subprocess.DEVNULL,
    stdout: int = asyncio.subprocess.PIPE,
    stderr: int = asyncio.subprocess.PIPE,
) -> asyncio.subprocess.Process:
    """Start a program, which gets SIGTERM if this process dies. Raises DependencyError if there is none."""
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
            preexec_fn=functools.partial(_follow, os.getpid()),
        )
    except OSError as error:
        raise DependencyError(
            f"The program {argv[0]} cannot be started on this host: {error.strerror}; install it or correct "
            "its path (qemu-img is in the package qemu-utils or qemu-img).",
            program=argv[0],
        ) from error


def _follow(parent: int) -> None:
    """Between fork and exec: ask for SIGTERM at the parent's death, unless it is dead already."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


async def end(process: asyncio.subprocess.Process, timeout: float = 0.0) -> None:
    """Wait for its end for ``timeout`` seconds, then kill it with all it has started."""
    if timeout:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), timeout)
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _failed(argv: Sequence[str], rc: int | None, reason: str) -> ProgramFailed:
    command = shlex.join(argv)
    return ProgramFailed(
        f"The command `{command}` failed: {reason or f'it ended with status {rc}'}; run it by hand to see "
        "more.",
        argv=list(argv),
        rc=rc,
        reason=reason,
    )
