# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs in the enclosure, as ``python -m``: brings up guests by stages, and says what became of each.

It gives the words of ``script.Line`` on stdout, one JSON document in a line.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from livebackup_receiver import subprocesses
from livebackup_receiver.errors import CommandFailed
from livebackup_receiver.model import Outcome
from livebackup_receiver.recovery.order import held_up, stages
from livebackup_receiver.recovery.plan import Ready
from livebackup_receiver.rehearsal.agent import AgentFailed
from livebackup_receiver.rehearsal.guest import Guest, Trouble, open_guest
from livebackup_receiver.rehearsal.looks import look
from livebackup_receiver.rehearsal.machine import Machine
from livebackup_receiver.rehearsal.network import (
    Card,
    address_of,
    cards_of,
    commands,
    dhcp_command,
    way_out,
)
from livebackup_receiver.rehearsal.result import MemberResult, tail_of
from livebackup_receiver.rehearsal.script import INSIDE, SCRIPT, Line, Script, console_of

COMMAND_S = 30.0
SETTLE_S = 5.0


def main() -> None:
    """Perform the script that lies in the enclosure."""
    directory = Path(INSIDE)
    script = Script.model_validate_json((directory / SCRIPT).read_bytes())
    try:
        asyncio.run(perform(script, directory))
    except CommandFailed as error:
        say(Line(problem=error.cause))
    except Trouble as error:
        say(Line(problem=error.reason))
    else:
        say(Line(ended=True))


def say(line: Line) -> None:
    """Tell the outside."""
    print(line.model_dump_json(exclude_defaults=True), flush=True)


async def perform(script: Script, directory: Path) -> None:
    """Make the network, and bring up what the script names.

    :raise CommandFailed: the network cannot be made
    :raise Trouble: the enclosure is not closed
    """
    cards = cards_of(script.plan, script.cast)
    async with AsyncExitStack() as stack:
        await _make_network(script, cards, directory, stack)
        await Performance(script, cards, directory, stack).play()


class Performance:
    """The guests that run, and what is known of each."""

    def __init__(self, script: Script, cards: Sequence[Card], directory: Path, stack: AsyncExitStack) -> None:
        self._script = script
        self._cards = cards
        self._directory = directory
        self._stack = stack
        self._guests: dict[str, Guest] = {}
        self._results = {vm: _absent(vm) for vm in script.absent}

    async def play(self) -> None:
        """Bring up stage after stage, then look at all of them once more, and tell."""
        for stage in stages(self._script.plan, self._script.cast):
            await asyncio.gather(*(self._bring_up(vm) for vm in stage))
        for vm, result in self._results.items():
            say(Line(member=await self._conclude(vm, result)))

    async def _bring_up(self, vm: str) -> None:
        bad = [each.vm for each in self._results.values() if each.outcome is not Outcome.PASSED]
        culprit = held_up(self._script.plan, vm, bad)
        if culprit is not None:
            reason = f"it comes after {culprit}, which {self._became_of(culprit)}"
            self._results[vm] = MemberResult(vm=vm, outcome=Outcome.NOT_STARTED, reason=reason)
            return
        result = MemberResult(vm=vm, outcome=Outcome.PASSED)
        self._results[vm] = result
        try:
            await self._try(vm, result)
        except Trouble as trouble:
            result.outcome, result.reason = trouble.outcome, trouble.reason
            if vm in self._guests:
                result.screenshot = await self._guests[vm].take_picture()
        say(Line(said=f"{vm}: {result.reason or result.outcome.words}"))

    async def _try(self, vm: str, result: MemberResult) -> None:
        """:raise Trouble: it does not come up, or a check does not pass"""
        guest = await self._stack.enter_async_context(open_guest(self._machine(vm), self._directory))
        self._guests[vm] = guest
        say(Line(said=f"{vm} is started", accelerator=await guest.accelerator()))
        started, planned = time.monotonic(), self._script.plan.member(vm)
        await _unless_in_trouble(guest, _ready(guest, planned.ready))
        result.ready_s = round(time.monotonic() - started, 3)
        say(Line(said=f"{vm} is ready"))
        for check in planned.checks:
            found = await _unless_in_trouble(guest, look(check, guest.agent, address_of(self._cards, vm)))
            result.checks.append(found)
            if not found.passed:
                raise Trouble(Outcome.FAILED, f"check {check.name}: {found.problem}")

    def _machine(self, vm: str) -> Machine:
        return Machine(
            vm=vm,
            boot=self._script.plan.member(vm).boot,
            disks=self._script.cast[vm],
            cards=[card for card in self._cards if card.vm == vm],
            descriptors={},
            accelerators=self._script.accelerators,
            overlay_bytes=self._script.overlay_bytes,
            files=self._script.files,
        )

    def _became_of(self, vm: str) -> str:
        words = {Outcome.FAILED: "failed", Outcome.COULD_NOT_RUN: "could not run"}
        return words.get(self._results[vm].outcome, "was not started")

    async def _conclude(self, vm: str, result: MemberResult) -> MemberResult:
        guest = self._guests.get(vm)
        if guest is None:
            return result
        trouble = guest.ailing()
        if result.outcome is Outcome.PASSED:
            if trouble is not None:
                result.outcome, result.reason = trouble.outcome, f"{trouble.reason}, after all had passed"
            result.screenshot = await guest.take_picture()
        (self._directory / console_of(vm)).write_bytes(guest.console.kept)
        result.console, result.console_tail = True, tail_of(guest.console.kept)
        return result


def _absent(vm: str) -> MemberResult:
    return MemberResult(vm=vm, outcome=Outcome.FAILED, reason="it is not in the point")


async def _ready(guest: Guest, ready: Ready) -> None:
    """Wait for the first of the signs.

    :raise Trouble: there is none in time
    """
    signs = [guest.agent.answers()] if ready.agent else []
    signs += [guest.console.shows(ready.console)] if ready.console is not None else []
    try:
        async with asyncio.timeout(ready.timeout_s):
            await _first(signs)
    except TimeoutError:
        raise Trouble(Outcome.FAILED, f"it did not boot: {unready_words(ready)}") from None
    except AgentFailed as error:
        # It also ends with its machine, of which there is more to say.
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await guest.trouble()
        raise Trouble(Outcome.FAILED, f"its agent cannot be understood: {error}") from None


def unready_words(ready: Ready) -> str:
    """What was waited for in vain."""
    signs = ["its agent did not answer"] if ready.agent else []
    signs += [f"its console did not show {ready.console!r}"] if ready.console is not None else []
    return f"{' and '.join(signs)} within {ready.timeout_s:g} s"


async def _unless_in_trouble(guest: Guest, work: Awaitable[Any]) -> Any:
    """What the work comes to; :raise Trouble: the guest cannot get any further meanwhile"""
    return await _first([work, guest.trouble()])


async def _first(works: Sequence[Awaitable[Any]]) -> Any:
    """What the first of these comes to; the others are given up."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, dummy = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _make_network(
    script: Script, cards: Sequence[Card], directory: Path, stack: AsyncExitStack
) -> None:
    network = script.plan.network
    if network is not None:
        for argv in commands(network, cards):
            await subprocesses.run(argv, timeout_s=COMMAND_S)
    if (leak := way_out(await _ip("link"), await _ip("route"), cards)) is not None:
        raise Trouble(Outcome.COULD_NOT_RUN, f"{leak} leads out of the enclosure")
    if network is not None and network.dhcp:
        messages = stack.enter_context((directory / "dhcp.stderr").open("wb"))
        argv = dhcp_command(network, cards, str(directory))
        stack.push_async_callback(subprocesses.kill, await subprocesses.spawn(argv, stderr=messages))


async def _ip(what: str) -> Any:
    return json.loads((await subprocesses.run(["ip", "-json", what], timeout_s=COMMAND_S)).stdout or "[]")


if __name__ == "__main__":
    main()
