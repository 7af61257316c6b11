# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""One hypervisor's part in a session: the flow. For internal use of livebackup.qemu only.

The receiver gives an order for every step reported; FLOW says which function carries it out. Each returns the
next report. Whatever fails, the VMs run again first, and everything else is put in order afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import (
    _agent,
    _bandwidth,
    _cleanup,
    _credentials,
    _cut,
    _discovery,
    _ends,
    _faultpoints,
    _names,
    _plan,
    _reconcile,
    _report,
    _sink,
    _stopped,
    _suitability,
    _transfer,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._channel import Channel, watched
from ansible_collections.livebackup.qemu.plugins.module_utils._credentials import Transport
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    ReceiverError,
    SessionAborted,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._member import Member, Members, together
from ansible_collections.livebackup.qemu.plugins.module_utils._pause import Pause
from ansible_collections.livebackup.qemu.plugins.module_utils._qmp import Monitor
from ansible_collections.livebackup.qemu.plugins.module_utils._quiesce import Quiesce
from ansible_collections.livebackup.qemu.plugins.module_utils._receiver import Receiver
from ansible_collections.livebackup.qemu.plugins.module_utils._steps import Answer, Dialogue, Report
from ansible_collections.livebackup.qemu.plugins.module_utils._watchdog import Watchdog

PROGRESS_SECONDS = 1.0
# why the disks of a stopped VM are not compared
_LACKS_STOPPED = "the VM does not run"


@dataclass(frozen=True)
class Settings:
    """The options of a participant; times in seconds, speeds in bytes per second (0: no limit)."""

    session: str
    host: str
    scratch_dir: str
    cut_hook: tuple[str, ...]
    cut_hook_timeout: float
    cbw_timeout: int
    speed: int
    host_speed: int
    stall_limit: float
    quiesce: Quiesce


@dataclass
class Participant:
    """The state of the flow; ``find`` gives the monitors of this host's VMs that run and take part, or
    raises, and sets ``stopped``.
    """

    settings: Settings
    receiver: Receiver
    watchdog: Watchdog
    find: Callable[[], Awaitable[list[Monitor]]]
    stopped: list[_stopped.StoppedVm] = field(default_factory=list)
    monitors: list[Monitor] = field(default_factory=list)
    members: Members = field(default_factory=Members)
    channels: list[Channel] = field(default_factory=list)
    plan: dict[str, Any] = field(default_factory=dict)
    carrier: _transfer.Carrier = field(init=False)
    warnings: list[str] = field(default_factory=list)
    transferring: bool = False
    transferred: bool = False

    def __post_init__(self) -> None:
        self.window = _cut.Window(self.members, self.watchdog)
        self.pace = _bandwidth.Pace(self.settings.speed, self.settings.host_speed)
        self.dialogue = Dialogue(self.receiver, self.settings.session, self.settings.host)

    async def run(self) -> None:
        """Take part from ``joined`` to ``leave``.

        Raises LivebackupError after everything has been put in order.
        """
        with watched(self.channels, self.settings.stall_limit):
            try:
                await self._follow(await join(self))
            except BaseException as error:
                await _cleanup.clean_up(self, error)
                raise
            finally:
                await self.window.leave()

    async def _follow(self, report: Report) -> None:
        while True:
            answer = await self._say(report)
            if answer.order == "leave":
                return
            report = await carry_out(self, answer, report)
            await _stopped.end_failed(self.members)

    async def _say(self, report: Report) -> Answer:
        if not self.window.is_open:
            return await self.dialogue.say(report)
        saying = self.dialogue.say_within(report, self.window.remaining())
        return await self.window.at_barrier(saying)


async def carry_out(participant: Participant, answer: Answer, last: Report) -> Report:
    """Do what an order says and return the next report. Raises LivebackupError."""
    if answer.order == "wait":
        return last
    if answer.order not in FLOW:
        raise ReceiverError(
            f"The receiver gave the order {answer.order}, which this collection does not know; install "
            f"collection and receiver of the same version.",
            order=answer.order,
        )
    return await FLOW[answer.order](participant, answer)


async def join(participant: Participant) -> Report:
    """Put the VMs in order, check them, and claim them for the session."""
    receiver, settings = participant.receiver, participant.settings
    monitors = await participant.find()
    _faultpoints.reached("participant.found")
    vms = await together(monitors, _discovery.inspect)
    for vm in vms:
        await asyncio.to_thread(_reconcile.refuse_owned, receiver, vm, settings.session)
    # only from here on are they ours to put in order
    participant.monitors += monitors
    _credentials.sweep()
    verdicts = await asyncio.to_thread(_reconcile.verdicts, receiver, settings.host, vms)
    _faultpoints.reached("participant.judged")
    await together(monitors, lambda monitor: _reconcile.settle(monitor, verdicts.get(monitor.vm, {})))
    participant.members.present += await together(monitors, lambda monitor: _claim(monitor, settings.session))
    _faultpoints.reached("participant.joined")
    # what has just been removed is the reason why a disk is not incremental
    before = {vm.name: vm for vm in vms}
    for stopped in participant.stopped:
        member, before[stopped.name] = await _stopped.join(stopped, receiver, settings.host)
        participant.members.present.append(member)
    lacks = await _sink.lacks()
    reports = [
        _report.joined(
            member.vm, member.agent, before[member.name], _LACKS_STOPPED if member.stopped else lacks
        )
        for member in participant.members.present
    ]
    return Report("joined", {"vms": reports})


async def _claim(monitor: Monitor, session: str) -> Member:
    vm = await _discovery.inspect(monitor)
    _suitability.check_vm(vm)
    await monitor.execute("object-add", {"qom-type": "throttle-group", "id": _names.session_object(session)})
    _faultpoints.reached("participant.claimed")
    return Member(monitor, vm, Pause(monitor, vm.agent_path), agent=await _agent.state(vm))


async def prepare(participant: Participant, answer: Answer) -> Report:
    """Attach scratch images and receiver to the running VMs."""
    _faultpoints.reached("participant.planned")
    plan = participant.plan = answer.plan or {}
    settings = participant.settings
    carrier = _transfer.Carrier(
        Transport.from_api(participant.receiver.host, plan["transport"]),
        participant.watchdog,
        participant.channels,
        settings.scratch_dir,
        settings.stall_limit,
        participant.receiver,
        settings.session,
        settings.host,
        settings.speed,
    )
    participant.carrier = carrier

    async def attach(member: Member) -> None:
        member.quieten(settings.quiesce, plan["consistency"])
        if member.stopped:
            await _stopped.attach(member, plan, carrier)
        else:
            member.plans = _plan.disk_plans(member.vm, plan)
            await _transfer.attach_targets(member, carrier)
        await _ends.attach(member)

    await participant.members.do(attach)
    await _cut.flush(participant.members.present)
    _faultpoints.reached("participant.prepared")
    return Report("prepared")


async def stop(participant: Participant, dummy: Answer) -> Report:
    """Freeze and stop the VMs; they stand still until the whole group is cut."""
    plan = participant.plan
    await participant.window.open(plan["stop_budget_s"])
    vms = [{"vm": member.name, "consistency": member.consistency} for member in participant.members.present]
    return Report("stopped", {"vms": vms})


async def cut(participant: Participant, dummy: Answer) -> Report:
    """Capture all disks and let the VMs run again."""
    _faultpoints.reached("participant.cutting")
    settings = participant.settings
    await participant.window.cut(
        settings.session, settings.cut_hook, settings.cut_hook_timeout, settings.cbw_timeout
    )
    await participant.window.close()
    participant.warnings += [*participant.members.not_frozen(), *participant.window.complaints]
    await participant.members.do(_cut.measure)
    await participant.members.do(_ends.place)
    _faultpoints.reached("participant.measured")
    return Report("cut", {"vms": [_cut.facts(member) for member in participant.members.present]})


async def transfer(participant: Participant, answer: Answer) -> Report:
    """Start the jobs, or see how far they are; when all have ended well, free the VMs of them."""
    members, carrier = participant.members, participant.carrier
    if not participant.transferring:
        participant.transferring = True
        speed = participant.pace.change(
            sum(len(member.plans) for member in members.present), answer.disk_speed
        )
        await members.do(lambda member: _transfer.start(member, carrier, speed))
    progress = await _transfer.look_at_all(members, participant.pace.speed)
    await participant.pace.keep(members, sum(not disk.ended for disk in progress), answer.disk_speed)
    if not all(disk.ended for disk in progress):
        await _transfer.next_event(members.present, PROGRESS_SECONDS)
        progress = await _transfer.look_at_all(members, participant.pace.speed)
    _faultpoints.reached("participant.transferring")
    if not all(disk.ended for disk in progress):
        return Report("transferring", {"disks": [disk.facts() for disk in progress]})
    await members.do(lambda member: (_stopped if member.stopped else _transfer).detach(member))
    participant.transferred = True
    _faultpoints.reached("participant.transferred")
    return Report(
        "transferred",
        {"disks": [sent for member in members.present for sent in _transfer.sent_facts(member)]},
    )


async def finish(participant: Participant, dummy: Answer) -> Report:
    """The point is committed: drop the old checkpoints. What fails here, the next run does."""
    _faultpoints.reached("participant.finishing")
    removed = await _cleanup.put_in_order(participant)
    _faultpoints.reached("participant.finished")
    return Report("finished", {"removed": removed})


async def abort(participant: Participant, answer: Answer) -> Report:
    """The receiver gave the session up."""
    session = participant.settings.session
    raise SessionAborted(
        f"The receiver aborted session {session}: {answer.reason}", session=session, reason=answer.reason
    )


FLOW: dict[str, Callable[[Participant, Answer], Awaitable[Report]]] = {
    "prepare": prepare,
    "stop": stop,
    "cut": cut,
    "transfer": transfer,
    "finish": finish,
    "abort": abort,
}
