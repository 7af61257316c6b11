# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One guest that runs, inside the enclosure: its monitor, console, agent, and a picture of its display."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from qemu.qmp import EventListener, QMPClient, QMPError

from livebackup_receiver import subprocesses
from livebackup_receiver.model import Outcome
from livebackup_receiver.rehearsal import machine
from livebackup_receiver.rehearsal.agent import Agent, open_agent
from livebackup_receiver.rehearsal.console import Console, open_console
from livebackup_receiver.rehearsal.machine import CHANNELS, Machine
from livebackup_receiver.rehearsal.result import printable
from livebackup_receiver.rehearsal.script import INSIDE, screenshot_of

CONNECT_S = 60.0
PICTURE_S = 30.0
EVENTS = ("BLOCK_IO_ERROR", "SHUTDOWN", "GUEST_PANICKED")


class Trouble(Exception):
    """A guest cannot get any further; ``outcome`` says whether that is the point's fault."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


class Guest:
    """Made by ``open_guest``."""

    def __init__(
        self,
        vm: str,
        process: asyncio.subprocess.Process,
        qmp: QMPClient,
        console: Console,
        agent: Agent,
        events: EventListener,
        stderr: Path,
    ) -> None:
        self.vm = vm
        self.console = console
        self.agent = agent
        self._process = process
        self._qmp = qmp
        self._events = events
        self._stderr = stderr

    async def accelerator(self) -> str:
        """What its processor is: kvm or tcg."""
        found: Any = await self._qmp.execute("query-kvm")
        return "kvm" if found["enabled"] else "tcg"

    async def trouble(self) -> None:
        """Wait until it cannot get any further.

        :raise Trouble: then
        """
        ended = asyncio.create_task(self._process.wait())
        told = asyncio.create_task(self._events.get())
        try:
            await asyncio.wait({ended, told}, return_when=asyncio.FIRST_COMPLETED)
            if told.done() and told.exception() is None:
                raise trouble_of(told.result())
            raise Trouble(Outcome.FAILED, f"its machine ended{last_words(self._stderr)}")
        finally:
            ended.cancel()
            told.cancel()

    def ailing(self) -> Trouble | None:
        """What has come over it meanwhile, if anything has."""
        for event in self._events.clear():
            return trouble_of(event)
        if self._process.returncode is not None:
            return Trouble(Outcome.FAILED, f"its machine ended{last_words(self._stderr)}")
        return None

    async def take_picture(self) -> bool:
        """Keep what its display shows (QMP ``screendump``); whether there is a picture."""
        path = str(INSIDE / screenshot_of(self.vm))
        try:
            async with asyncio.timeout(PICTURE_S):
                await self._qmp.execute("screendump", {"filename": path, "format": "png"})
        except (QMPError, TimeoutError, EOFError, OSError) as error:
            logging.warning("%s: no picture of its display: %s", self.vm, error)
            return False
        return True


def trouble_of(event: Any) -> Trouble:
    """What an event of QEMU means; pure."""
    if event["event"] == "BLOCK_IO_ERROR":
        return _disk_trouble(event["data"])
    if event["event"] == "GUEST_PANICKED":
        return Trouble(Outcome.FAILED, "its kernel panicked")
    return Trouble(Outcome.FAILED, "it powered off")


def _disk_trouble(data: Any) -> Trouble:
    disk, why = data["node-name"] or data["device"], printable(str(data.get("reason")))
    if data["operation"] == "write":
        reason = f"it wrote more to {disk} than rehearsal_overlay_bytes allows, or the store is full ({why})"
        return Trouble(Outcome.COULD_NOT_RUN, reason)
    return Trouble(Outcome.FAILED, f"{disk} could not be read ({why})")


def last_words(stderr: Path) -> str:
    """What a machine said at last, in parentheses."""
    text = printable(stderr.read_text(errors="replace").strip().rpartition("\n")[2])
    return f" ({text})" if text else ""


@asynccontextmanager
async def open_guest(described: Machine, directory: Path) -> AsyncIterator[Guest]:
    """A machine that is running; it is gone when the block ends.

    :param described: ``descriptors`` are filled in here
    :param directory: for its messages
    :raise Trouble: it cannot be started
    """
    async with AsyncExitStack() as stack:
        ours, theirs = _channels(stack)
        if described.boot.firmware == "uefi":
            shutil.copyfile(machine.UEFI_VARIABLES, INSIDE / machine.variables_of(described.vm))
        described.descriptors.update({name: end.fileno() for name, end in theirs.items()})
        stderr = directory / f"{described.vm}.stderr"
        with ExitStack() as ends, stderr.open("wb") as messages:
            for end in theirs.values():
                ends.callback(end.close)
            descriptors = list(described.descriptors.values())
            process = await subprocesses.spawn(
                machine.command(described), stderr=messages, pass_fds=descriptors
            )
        stack.push_async_callback(subprocesses.kill, process)
        console = await stack.enter_async_context(open_console(ours["firmware"], ours["console"]))
        agent = await stack.enter_async_context(open_agent(ours["agent"]))
        qmp = QMPClient(described.vm)
        events = stack.enter_context(qmp.listener(EVENTS))
        await _connect(qmp, ours["monitor"], stderr)
        stack.push_async_callback(_disconnect, qmp, process)
        yield Guest(described.vm, process, qmp, console, agent, events, stderr)


def _channels(stack: AsyncExitStack) -> tuple[dict[str, socket.socket], dict[str, socket.socket]]:
    """Our ends, and those that the machine inherits."""
    ours, theirs = {}, {}
    for name in CHANNELS:
        ours[name], theirs[name] = socket.socketpair()
        stack.callback(ours[name].close)
    return ours, theirs


async def _connect(qmp: QMPClient, monitor: socket.socket, stderr: Path) -> None:
    try:
        async with asyncio.timeout(CONNECT_S):
            await qmp.connect(monitor)
    except (QMPError, TimeoutError, OSError):
        words = last_words(stderr) or " and does not say why"
        raise Trouble(Outcome.COULD_NOT_RUN, f"QEMU does not start{words}") from None


async def _disconnect(qmp: QMPClient, process: asyncio.subprocess.Process) -> None:
    await subprocesses.kill(process)
    # The connection breaks with the process, which disconnect() reports as an error.
    with suppress(QMPError, EOFError, OSError):
        await qmp.disconnect()
