# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The QEMU guest agent, over its own socket. For internal use of livebackup.qemu only.

A request to an agent that does not answer stays in the guest's queue and is executed when the agent wakes up.
So nothing that changes the guest is sent before the agent has just answered ``guest-sync``.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils._deps import (
    ExecuteError,
    QMPClient,
    QMPError,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import AgentError
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Vm

PING_TIMEOUT = 2.0
_POLL_SECONDS = 0.05


async def state(vm: Vm) -> str:
    """absent (the VM has no agent channel), silent, or responding."""
    if vm.agent_path is None:
        return "absent"
    if not vm.running:
        return "silent"
    try:
        async with _synced(vm.name, vm.agent_path, PING_TIMEOUT):
            return "responding"
    except AgentError:
        return "silent"


async def freeze(vm: str, path: str, timeout: float, before: Callable[[], Awaitable[None]]) -> int:
    """Freeze the guest's file systems (``guest-fsfreeze-freeze``) and return how many.

    ``before`` is done when the agent has just answered; if it does not answer, nothing has been sent that it
    might obey later. Raises AgentError.
    """
    async with _synced(vm, path, min(timeout, PING_TIMEOUT)) as client:
        await before()
        command = "guest-fsfreeze-freeze"
        return int(await _answer(vm, client.execute(command), command, timeout))


async def thaw(vm: str, path: str, timeout: float) -> int:
    """Thaw them (``guest-fsfreeze-thaw``) and return how many; 0 if none was frozen. Raises AgentError."""
    return int(await _command(vm, path, "guest-fsfreeze-thaw", timeout))


async def run(
    vm: str, path: str, command: tuple[str, ...], timeout: float, before: Callable[[], Awaitable[None]]
) -> None:
    """Run a command in the guest to its end (``guest-exec``, ``guest-exec-status``); ``before`` as above.

    Raises AgentError, also if the command fails.
    """
    deadline = time.monotonic() + timeout
    async with _synced(vm, path, min(timeout, PING_TIMEOUT)) as client:
        await before()
        order = {"path": command[0], "arg": list(command[1:])}
        started = await _answer(vm, client.execute("guest-exec", order), "guest-exec", timeout)
        while True:
            asked = client.execute("guest-exec-status", started)
            status = await _answer(vm, asked, "guest-exec-status", max(0.0, deadline - time.monotonic()))
            if status["exited"]:
                break
            await asyncio.sleep(_POLL_SECONDS)
    if status.get("exitcode") != 0:
        how = f"exit status {status['exitcode']}" if "exitcode" in status else "a signal"
        raise AgentError(
            f"VM {vm}: the command {' '.join(command)} in the guest ended with {how}; run it in the guest to "
            f"find out why.",
            vm=vm,
            command=list(command),
        )


async def _command(vm: str, path: str, command: str, timeout: float) -> Any:
    async with _synced(vm, path, min(timeout, PING_TIMEOUT)) as client:
        return await _answer(vm, client.execute(command), command, timeout)


@contextlib.asynccontextmanager
async def _synced(vm: str, path: str, timeout: float) -> AsyncIterator[Any]:
    client = QMPClient(path)
    client.await_greeting = client.negotiate = False
    await _answer(vm, client.connect(path), "connect", timeout)
    try:
        await _answer(vm, _sync(client), "guest-sync", timeout)
        yield client
    finally:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(client.disconnect(), 1.0)


async def _sync(client: Any) -> None:
    # an earlier client's late answer may carry the same request id; only our number proves it is ours
    number = random.randrange(1, 2**31)
    while await client.execute("guest-sync", {"id": number}) != number:
        pass


async def _answer(vm: str, awaitable: Any, command: str, timeout: float) -> Any:
    try:
        return await asyncio.wait_for(awaitable, timeout)
    except ExecuteError as error:
        raise AgentError(
            f"VM {vm}: its guest agent refused {command}: {error}; see the agent's log in the guest.",
            vm=vm,
            command=command,
        ) from error
    except (asyncio.TimeoutError, QMPError, EOFError, OSError) as error:
        raise AgentError(
            f"VM {vm}: its guest agent did not answer {command} within {timeout:g} seconds; check that "
            f"qemu-guest-agent runs in the guest and that no other client holds its socket.",
            vm=vm,
            command=command,
        ) from error
