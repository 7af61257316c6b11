# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The VMs of this host in a running session. For internal use of livebackup.qemu only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ansible_collections.livebackup.qemu.plugins.module_utils._channel import Channel
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import AgentError, LivebackupError
from ansible_collections.livebackup.qemu.plugins.module_utils._pause import Pause
from ansible_collections.livebackup.qemu.plugins.module_utils._plan import DiskPlan
from ansible_collections.livebackup.qemu.plugins.module_utils._qmp import Monitor
from ansible_collections.livebackup.qemu.plugins.module_utils._quiesce import Hooks, Quiesce
from ansible_collections.livebackup.qemu.plugins.module_utils._resync import Reading
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Vm

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Member:
    """A VM with what the session holds of it; ``channels`` and ``readings`` by the index of the disk.

    ``stopped`` is the StoppedVm if it does not run; then ``monitor`` is that of its StorageDaemon ``daemon``.
    """

    monitor: Monitor
    vm: Vm
    pause: Pause
    agent: str = "absent"
    plans: list[DiskPlan] = field(default_factory=list)
    channels: dict[int, Channel] = field(default_factory=dict)
    stopped: Any = None
    daemon: Any = None
    readings: dict[int, Reading] = field(default_factory=dict)
    compared: set[int] = field(default_factory=set)
    consistency: str = "crash"
    quiesce: str = "none"
    hooks: Hooks | None = None
    # why its file systems were not frozen although that was tried
    not_frozen: str | None = None
    dirty_bytes: dict[str, int] = field(default_factory=dict)
    sent_bytes: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The VM's name."""
        return self.vm.name

    def quieten(self, quiesce: Quiesce, consistency: str) -> None:
        """Take over how the VM is to be frozen. Raises AgentError if it must be and its agent is silent."""
        self.quiesce = quiesce.mode(self.name, consistency)
        self.hooks = quiesce.hooks.get(self.name)
        if self.quiesce == "require" and self.agent != "responding":
            raise AgentError(
                f"VM {self.name}: its file systems are to be frozen but its guest agent is {self.agent}; "
                f"start qemu-guest-agent in the guest, or set quiesce of this VM to try or none.",
                vm=self.name,
                agent=self.agent,
            )

    def address(self) -> dict[str, Any]:
        """What the watchdog needs to find the VM."""
        return {"vm": self.name, "socket": self.vm.socket, "agent_path": self.vm.agent_path}


@dataclass
class Members:
    """All of them.

    Under the policy ``each`` a VM that fails is left out; under ``all`` its error ends all.
    """

    policy: str = "all"
    present: list[Member] = field(default_factory=list)
    failed: list[tuple[Member, LivebackupError]] = field(default_factory=list)

    @property
    def everyone(self) -> list[Member]:
        """Also those that have failed: they too must run again."""
        return self.present + [member for member, dummy in self.failed]

    async def do(self, act: Callable[[Member], Awaitable[Any]]) -> list[Any]:
        """Do something to all present VMs at the same time, and return the results of those still present."""
        members = list(self.present)
        results = await asyncio.gather(*map(act, members), return_exceptions=True)
        for member, result in zip(members, results):
            if isinstance(result, BaseException):
                self._lose(member, result)
        return [result for result in results if not isinstance(result, BaseException)]

    def not_frozen(self) -> list[str]:
        """What to tell the user of VMs that were not frozen although that was tried."""
        return [
            f"VM {member.name} is crash-consistent only, because it could not be frozen: {member.not_frozen}"
            for member in self.present
            if member.not_frozen
        ]

    def _lose(self, member: Member, error: BaseException) -> None:
        if self.policy != "each" or not isinstance(error, LivebackupError) or len(self.present) == 1:
            raise error
        self.present.remove(member)
        self.failed.append((member, error))


async def together(items: Iterable[Item], act: Callable[[Item], Awaitable[Result]]) -> list[Result]:
    """Do something to each item at the same time, to the end of all; then raise the first error, if any."""
    results = await asyncio.gather(*map(act, items), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
