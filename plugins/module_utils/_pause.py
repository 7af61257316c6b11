# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stopping a VM so that anybody can see that it was us, and letting it run again. For internal use only.

Three objects on the VM are the record: ``lb-hook`` (we ran the operator's hook in the guest; it holds the
hook that undoes it), ``lb-freeze`` (we asked the agent to freeze) and ``lb-pause`` (we stopped the CPUs).
They are made before the act and removed after it is undone, so a VM paused by its operator is never resumed,
and one paused by us always is, by whoever comes next: this process, its watchdog, or a later run.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass

from ansible_collections.livebackup.qemu.plugins.module_utils import _agent, _faultpoints, _names
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    AgentError,
    CutError,
    LivebackupError,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._qmp import Monitor
from ansible_collections.livebackup.qemu.plugins.module_utils._quiesce import Command, Hooks

THAW_TIMEOUT = 5.0
_RETRY_SECONDS = 1.0


@dataclass
class Pause:
    """One VM's pause; ``pause_ms`` is from ``stop`` issued to ``cont`` acknowledged, None if it ran on."""

    monitor: Monitor
    agent_path: str | None
    hooked: Hooks | None = None
    frozen: bool = False
    announced: bool = False
    stopped: bool = False
    pause_ms: float | None = None
    _stopped_at: float = 0.0

    async def freeze(self, timeout: float, hooks: Hooks | None = None) -> None:
        """Run the freeze hook, if any, and freeze the guest's file systems. Raises AgentError."""
        deadline = time.monotonic() + timeout
        vm = self.monitor.vm
        if self.agent_path is None:
            raise AgentError(
                f"VM {vm} has no guest agent channel, so its file systems cannot be frozen; add one or "
                f"open the session with consistency crash.",
                vm=vm,
            )
        if hooks is not None:
            await _agent.run(vm, self.agent_path, hooks.freeze, timeout, lambda: self._mark_hook(hooks))
        left = max(0.0, deadline - time.monotonic())
        await _agent.freeze(vm, self.agent_path, left, self._mark_freeze)

    async def _mark_hook(self, hooks: Hooks) -> None:
        # a secret keeps a text that anybody with the QMP socket can read back; it is none
        text = json.dumps(hooks.thaw)
        await self.monitor.execute("object-add", {"qom-type": "secret", "id": _names.HOOK, "data": text})
        self.hooked = hooks

    async def _mark_freeze(self) -> None:
        await _mark(self.monitor, _names.FREEZE)
        self.frozen = True

    async def announce(self) -> None:
        """Mark a running VM as stopped by us, while it still runs; one paused by its operator stays so."""
        if (await self.monitor.execute("query-status"))["running"]:
            await _mark(self.monitor, _names.PAUSE)
            _faultpoints.reached("participant.marked")
            self.announced = True

    async def stop(self) -> None:
        """Stop a VM that has been announced."""
        if self.announced:
            self.stopped = True
            self._stopped_at = time.monotonic()
            await self.monitor.execute("stop")
            _faultpoints.reached("participant.stopped")

    async def verify(self) -> None:
        """Raise CutError if somebody else has resumed the VM meanwhile: then there was no common instant."""
        vm = self.monitor.vm
        if (await self.monitor.execute("query-status"))["running"]:
            raise CutError(
                f"VM {vm} was resumed by another QMP client while its backup was being cut; keep other "
                f"clients from sending cont and repeat the backup.",
                vm=vm,
            )

    async def resume(self) -> None:
        """Undo ``stop`` and ``freeze``, hook included; repeating it is harmless.

        Raises AgentError if the guest stays frozen or its thaw hook fails.
        """
        await self.cont()
        await self.thaw()

    async def cont(self) -> None:
        """Let the CPUs run again."""
        if self.stopped:
            await self.monitor.execute("cont")
            self.pause_ms = 1000 * (time.monotonic() - self._stopped_at)
            self.stopped = False
            _faultpoints.reached("participant.resumed")
        if self.announced:
            await _unmark(self.monitor, _names.PAUSE)
            self.announced = False
            _faultpoints.reached("participant.unmarked")

    async def thaw(self) -> None:
        """Undo ``freeze``, also one that may still be executed. Raises AgentError as above."""
        if self.frozen and self.agent_path is not None:
            await _thaw(self.monitor, self.agent_path)
            self.frozen = False
        if self.hooked is not None and self.agent_path is not None:
            await _run_thaw_hook(self.monitor, self.agent_path, self.hooked.thaw)
            self.hooked = None

    async def thaw_late(self) -> None:
        """Try until the guest is thawed: an agent that hung may wake and obey what it was sent."""
        while True:
            try:
                return await self.thaw()
            except LivebackupError:
                await asyncio.sleep(_RETRY_SECONDS)


class NoPause:
    """Of a VM that does not run: it need not be stopped."""

    pause_ms: float | None = 0.0
    frozen = False

    async def freeze(self, *dummies: object) -> None:
        """There is no agent: this is never asked of it."""

    async def announce(self) -> None:
        """Nothing."""

    async def stop(self) -> None:
        """Nothing."""

    async def verify(self) -> None:
        """The image locks see to it."""

    async def cont(self) -> None:
        """Nothing."""

    async def thaw(self) -> None:
        """Nothing."""


async def objects(monitor: Monitor) -> tuple[str, ...]:
    """Ids of the objects the user or we made on a VM. QAPI: qom-list."""
    return tuple(entry["name"] for entry in await monitor.execute("qom-list", {"path": "/objects"}))


async def resume_leftover(monitor: Monitor, found: tuple[str, ...], agent_path: str | None) -> None:
    """Undo what the objects ``found`` on a VM say was left behind. Raises AgentError, MonitorError."""
    if _names.PAUSE in found:
        if not (await monitor.execute("query-status"))["running"]:
            await monitor.execute("cont")
        await _unmark(monitor, _names.PAUSE)
    if _names.FREEZE in found and agent_path is not None:
        await _thaw(monitor, agent_path)
    if _names.HOOK in found and agent_path is not None:
        text = await monitor.execute("qom-get", {"path": f"/objects/{_names.HOOK}", "property": "data"})
        await _run_thaw_hook(monitor, agent_path, tuple(json.loads(text)))


async def _thaw(monitor: Monitor, agent_path: str) -> None:
    try:
        await _agent.thaw(monitor.vm, agent_path, THAW_TIMEOUT)
    except AgentError as error:
        # the mark stays, so that the next run tries again
        raise AgentError(
            f"VM {monitor.vm}: its guest agent did not thaw the file systems; restart "
            f"qemu-guest-agent in the guest or send guest-fsfreeze-thaw by hand.",
            vm=monitor.vm,
        ) from error
    await _unmark(monitor, _names.FREEZE)


async def _run_thaw_hook(monitor: Monitor, agent_path: str, command: Command) -> None:
    # without a success the mark stays, so that the next run tries again
    await _agent.run(monitor.vm, agent_path, command, THAW_TIMEOUT, _nothing)
    await _unmark(monitor, _names.HOOK)


async def _nothing() -> None:
    pass


async def _mark(monitor: Monitor, name: str) -> None:
    # any object would do; an empty throttle group costs nothing and does nothing
    await monitor.execute("object-add", {"qom-type": "throttle-group", "id": name})


async def _unmark(monitor: Monitor, name: str) -> None:
    await monitor.unless_refused("object-del", {"id": name})
