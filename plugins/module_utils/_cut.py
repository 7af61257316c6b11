# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stop window of all VMs of this host. For internal use of livebackup.qemu only.

Everything that takes time has been done before; in here are only the acts that must fall between ``stop`` and
``cont``. Adding the filter to a running VM with an iothread has aborted QEMU 7.2, and none of it is atomic
with the bitmaps, so all of it happens while the VM stands still.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import (
    _discovery,
    _faultpoints,
    _names,
    _process,
    _transactions,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    AgentError,
    BudgetSpent,
    DependencyError,
    DiskBusy,
    HookFailed,
    ProgramFailed,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._member import Member, Members, Result, together
from ansible_collections.livebackup.qemu.plugins.module_utils._watchdog import Watchdog

# Meanwhile the VMs of other hosts may already stand still.
FLUSH_SHARE = 0.2
# the rest of the budget is for resuming; at its end the watchdog kills us
OWN_SHARE = 0.9
# So much of the budget a guest may take to freeze; VMs of other hosts may stand still meanwhile, and all
# others must still be cut if it does not.
FREEZE_SHARE = {"try": 0.3, "require": 0.7}
CLEANUP_SECONDS = 60.0


class Window:
    """The stop window: ``open`` freezes and stops, ``cut`` captures, ``close`` resumes and thaws."""

    def __init__(self, members: Members, watchdog: Watchdog) -> None:
        self._members = members
        self._watchdog = watchdog
        self._budget = 0.0
        self._deadline: float | None = None
        # how much of the pause went into waiting for the other hosts
        self.barrier_ms = 0.0
        self.complaints: list[str] = []
        self._kept = False
        self._late: list[asyncio.Task[None]] = []

    @property
    def is_open(self) -> bool:
        """Whether VMs may stand still because of us."""
        return self._deadline is not None

    def remaining(self) -> float:
        """Seconds until we must resume, whatever has happened."""
        return max(0.0, (self._deadline or 0.0) - time.monotonic())

    async def open(self, budget: float) -> None:
        """Freeze the VMs that are to be, and stop all within ``budget`` seconds.

        Raises AgentError, BudgetSpent.
        """
        await flush(self._members.present, FLUSH_SHARE * budget)
        self._watchdog.arm(budget, self._addresses())
        self._budget = budget
        self._deadline = time.monotonic() + OWN_SHARE * budget
        _faultpoints.reached("participant.armed")
        await self.within_budget(self._members.do(self._freeze))
        # one after the other: no VM stands still while another is only being announced
        await self.within_budget(self._members.do(lambda member: member.pause.announce()))
        await self.within_budget(self._members.do(lambda member: member.pause.stop()))

    async def _freeze(self, member: Member) -> None:
        if member.quiesce == "none":
            return
        try:
            if member.agent != "responding":
                raise AgentError(f"its guest agent is {member.agent}.", vm=member.name)
            await member.pause.freeze(FREEZE_SHARE[member.quiesce] * self._budget, member.hooks)
        except AgentError as error:
            if member.quiesce == "require":
                raise
            member.not_frozen = error.message
        else:
            member.consistency = "application" if member.hooks else "filesystem"

    async def cut(self, session: str, hook: tuple[str, ...], hook_timeout: float, cbw_timeout: int) -> None:
        """Capture every disk of every VM at this instant. Raises BudgetSpent, CutError, MonitorError."""
        await self.within_budget(self._members.do(lambda member: cut_vm(member, cbw_timeout)))
        if hook:
            await self.within_budget(run_hook(hook, hook_timeout, session, self._members.present))
        _faultpoints.reached("participant.hook-run")
        await self.within_budget(self._members.do(lambda member: member.pause.verify()))

    async def close(self) -> None:
        """Let all VMs run again, each as soon as it can; raises the first error after all were tried."""
        if self._deadline is None:
            return
        self._deadline = None
        try:
            await together(self._members.everyone, self._resume)
        except BaseException:
            # the watchdog tries again when we are gone
            self._watchdog.arm(CLEANUP_SECONDS, self._addresses())
            raise
        if self._late:
            self._watchdog.keep(self._addresses())
            self._kept = True
        else:
            self._watchdog.disarm()
        _faultpoints.reached("participant.disarmed")

    async def _resume(self, member: Member) -> None:
        await member.pause.cont()
        if member.quiesce != "none" and member.consistency == "crash":
            # its agent may be silent, and for that no other VM may wait
            self._thaw_late(member)
            return
        try:
            await member.pause.thaw()
        except AgentError as error:
            if member.pause.frozen and member.quiesce == "require":
                raise
            # the VM runs, and no point depends on its agent any more
            self.complaints.append(f"{error.message} It is tried again until it succeeds.")
            self._thaw_late(member)

    def _thaw_late(self, member: Member) -> None:
        self._late.append(asyncio.ensure_future(member.pause.thaw_late()))

    async def leave(self) -> None:
        """Leave guests that are still not thawed to the watchdog, which goes on when we have ended."""
        waiting = [task for task in self._late if not task.done()]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        if self._kept and not waiting:
            self._watchdog.disarm()

    def _addresses(self) -> list[dict[str, Any]]:
        return [member.address() for member in self._members.everyone if not member.stopped]

    async def at_barrier(self, saying: Awaitable[Result]) -> Result:
        """Wait for the other hosts while our VMs stand still. Raises BudgetSpent."""
        started = time.monotonic()
        try:
            return await self.within_budget(saying)
        finally:
            self.barrier_ms += 1000 * (time.monotonic() - started)

    async def within_budget(self, work: Awaitable[Result]) -> Result:
        """Do something inside the window. Raises BudgetSpent when the window has been open for too long."""
        try:
            return await asyncio.wait_for(work, self.remaining())
        except asyncio.TimeoutError as error:
            names = ", ".join(member.name for member in self._members.everyone)
            raise BudgetSpent(
                f"The VMs {names} were resumed because the cut was not done within the budget of "
                f"{self._budget:g} seconds; raise the session's stop_budget or find out which host is slow.",
                budget_s=self._budget,
            ) from error


async def cut_vm(member: Member, cbw_timeout: int) -> None:
    """Insert the filters of a stopped VM and start its new checkpoint bitmaps.

    QAPI: transaction, blockdev-add, qom-set. Raises MonitorError.
    """
    monitor, plans = member.monitor, member.plans
    await monitor.transaction(_transactions.start_checkpoints(plans))
    _faultpoints.reached("participant.checkpoints-started")
    for plan in plans:
        if plan.at_rest:
            continue
        await monitor.execute("blockdev-add", _transactions.filter_node(plan, cbw_timeout))
        _faultpoints.reached("participant.filter-added")
        await monitor.execute(
            "qom-set",
            {"path": plan.disk.device, "property": "drive", "value": _names.node("cbw", plan.index)},
        )
        _faultpoints.reached("participant.device-switched")
        await monitor.execute("blockdev-add", _transactions.snapshot_node(plan))
        _faultpoints.reached("participant.snapshot-added")
    await monitor.transaction(_transactions.hand_over_frozen(plans))
    _faultpoints.reached("participant.cut")


async def run_hook(command: tuple[str, ...], timeout: float, session: str, members: list[Member]) -> None:
    """Run the user's command while all VMs stand still. Raises HookFailed."""
    names = ",".join(member.name for member in members)
    try:
        environment = {"LIVEBACKUP_SESSION": session, "LIVEBACKUP_VMS": names}
        await _process.run(command, timeout=timeout, env=environment)
    except (ProgramFailed, DependencyError) as error:
        raise HookFailed(
            f"The cut_hook failed, so the VMs {names} were resumed and the backup was given up: "
            f"{error.message}",
            **error.facts,
        ) from error


async def measure(member: Member) -> None:
    """Read after the cut how much is to be copied, and make sure that no disk was resized before it.

    The filter forbids resizing from the cut on. Raises DiskBusy, MonitorError.
    """
    nodes = {
        node["node-name"]: node
        for node in await member.monitor.execute("query-named-block-nodes", {"flat": True})
    }
    for plan in member.plans:
        disk, size = plan.disk, nodes[plan.disk.node]["image"]["virtual-size"]
        if size != disk.virtual_size:
            raise DiskBusy(
                f"VM {member.name}: disk {disk.name} was resized from {disk.virtual_size} to {size} bytes "
                f"during the backup; repeat the backup.",
                vm=member.name,
                disk=disk.name,
            )
        bitmaps = {bitmap.name: bitmap for bitmap in _discovery.bitmaps_of(nodes[plan.source], "")}
        member.dirty_bytes[disk.name] = bitmaps[_names.FROZEN].dirty_bytes if plan.incremental else size


async def flush(members: list[Member], timeout: float | None = None) -> None:
    """fsync the image files for some seconds; what is left then, ``stop`` flushes on a VM that waits."""
    flushing = asyncio.ensure_future(asyncio.to_thread(_flush_images, members))
    await asyncio.wait([flushing], timeout=timeout)


def _flush_images(members: list[Member]) -> None:
    for member in members:
        for plan in member.plans:
            with contextlib.suppress(OSError):
                descriptor = os.open(plan.disk.file, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)


def facts(member: Member) -> dict[str, Any]:
    """One VM of the step ``cut``."""
    disks = [
        {
            "disk": plan.disk.name,
            "dirty_bytes": member.dirty_bytes[plan.disk.name],
            "virtual_size": plan.disk.virtual_size,
        }
        for plan in member.plans
    ]
    return {
        "vm": member.name,
        "pause_ms": round(member.pause.pause_ms or 0.0, 1),
        "consistency": member.consistency,
        "disks": disks,
    }
