# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A receiver, two hosts and their disks in memory: the product's pure code, with messages that get lost.

What a disk holds is the set of all writes ever made to it, so that a wrong increment shows as a difference.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from sample_steps import NOW, SIZE, STEP, VMS

from livebackup_receiver.coordinator import steps, transitions
from livebackup_receiver.coordinator.attendance import NEEDED
from livebackup_receiver.coordinator.opening import Opening, session_of
from livebackup_receiver.coordinator.orders import Order
from livebackup_receiver.coordinator.plan import Ancestor, plan_host
from livebackup_receiver.coordinator.receipt import receipt_of
from livebackup_receiver.coordinator.reconcile import SeenBitmap, SeenDisk, judge_disk
from livebackup_receiver.coordinator.recovery import interrupt
from livebackup_receiver.coordinator.reports import BitmapReport, DiskReport, VmReport
from livebackup_receiver.coordinator.session import LiveSession
from livebackup_receiver.coordinator.states import order_for
from livebackup_receiver.errors import ReceiverError, SessionAborted
from livebackup_receiver.ids import next_id
from livebackup_receiver.model import (
    Level,
    Participant,
    ParticipantState,
    Policy,
    Session,
    SessionState,
    TransferState,
)

DISK = "vd-a"
HOST_OF = {vm: host for host, vms in VMS.items() for vm in vms}
# What the coordinator waits for in a state, and the state that follows.
BARRIERS = {
    SessionState.PREPARING: (ParticipantState.PREPARED, SessionState.STOPPING),
    SessionState.STOPPING: (ParticipantState.STOPPED, SessionState.CUTTING),
    SessionState.CUTTING: (ParticipantState.CUT, SessionState.TRANSFERRING),
    SessionState.TRANSFERRING: (ParticipantState.TRANSFERRED, SessionState.SEALING),
}
BEFORE_STOP = (ParticipantState.JOINED, ParticipantState.PREPARED)
Writes = frozenset[int]


@dataclass
class Bitmap:
    """A checkpoint bitmap: the writes since it was added, if it is healthy."""

    writes: set[int] = field(default_factory=set)
    healthy: bool = True


@dataclass
class Vm:
    """A VM with one disk."""

    name: str
    written: set[int] = field(default_factory=set)
    bitmaps: dict[str, Bitmap] = field(default_factory=dict)
    stopped: bool = False
    frozen: tuple[Writes, dict[str, Writes]] | None = None

    def write(self, number: int) -> None:
        self.written.add(number)
        for bitmap in self.bitmaps.values():
            bitmap.writes.add(number)

    def freeze(self) -> None:
        """The cut: what a snapshot shows from now on, and what each bitmap says of it."""
        since = {point: frozenset(bitmap.writes) for point, bitmap in self.bitmaps.items()}
        self.frozen = frozenset(self.written), since


@dataclass
class Process:
    """A running participant: the session it is in, and the step it is to report."""

    session: str
    step: str = "joined"
    broken: bool = False


class Receiver:
    """The coordinator and its catalog; ``live`` is what a restart forgets."""

    present = cast(Any, LiveSession.present)
    reached = cast(Any, LiveSession.reached)

    def __init__(self) -> None:
        self.live: Session | None = None
        self.catalog: dict[str, Session] = {}
        self.content: dict[tuple[str, str], Writes] = {}
        self.received: dict[str, Writes] = {}
        self.reports: dict[str, list[VmReport]] = {}
        self.newest: str | None = None

    @property
    def record(self) -> Session:
        assert self.live
        return self.live

    def open(self, policy: Policy) -> None:
        self.newest = next_id(self.newest)
        opening = Opening(group="nightly", policy=policy, hosts=list(VMS))
        self.live = session_of(opening, self.newest, now=NOW)
        self.received, self.reports = {}, {}
        self.note()

    def note(self) -> None:
        """What the journal writes, some time or other."""
        self.catalog[self.record.id] = self.record.snapshot()

    def session(self, session: str) -> Session:
        return self.live if self.live and self.live.id == session else self.catalog[session]

    def committed_points(self, vm: str) -> set[str]:
        return {point for point, name in self.content if name == vm}

    def advance(self) -> None:
        """Do what the coordinator can do now; commit or abort if it is time."""
        try:
            self._advance()
        except SessionAborted as error:
            self.end(SessionState.ABORTED, str(error))

    def _advance(self) -> None:
        state = self.record.state
        if state is SessionState.JOINING and self.reached(ParticipantState.JOINED):
            self._plan()
        elif state is SessionState.SEALING:
            self._commit()
        elif state in BARRIERS and self.reached(BARRIERS[state][0]):
            transitions.enter(self.record, BARRIERS[state][1], now=NOW)

    def _plan(self) -> None:
        reports = {each.host: self.reports[each.host] for each in self.present}
        ancestors = {
            (vm, DISK): [Ancestor(point, SIZE, present=True) for point in self.committed_points(vm)]
            for vm in HOST_OF
        }
        planned = [each for host, vms in reports.items() for each in plan_host(host, vms, ancestors)]
        transitions.planned(self.record, planned, now=NOW)
        transitions.enter(self.record, SessionState.PREPARING, now=NOW)

    def _commit(self) -> None:
        receipt = receipt_of(self.record)
        if not receipt.transfers:
            self.end(SessionState.ABORTED, "every VM was left out")
            return
        needed = [each for each in self.record.participants if each.state in NEEDED]
        assert not needed, f"{needed} had not transferred"
        if self.record.policy is Policy.ALL:
            assert {disk.state for disk in self.record.disks} == {TransferState.TRANSFERRED}
            assert {disk.vm for disk in self.record.disks} == set(HOST_OF)
        transitions.move_transfers(self.record.disks, self.record, TransferState.SEALED, now=NOW)
        self.content |= {(self.record.id, disk.vm): self.received[disk.vm] for disk in receipt.transfers}
        self.end(SessionState.COMMITTED)

    def end(self, state: SessionState, reason: str | None = None) -> None:
        transitions.enter(self.record, state, now=NOW, reason=reason)
        self.note()
        self.live = None

    def restart(self) -> None:
        """Forget what was not written, and abort what was found open."""
        self.live = None
        for session in self.catalog.values():
            if not session.state.ended:
                interrupt(session, now=NOW)

    def take_step(self, host: str, name: str, facts: dict[str, object], session: str) -> Order:
        """Record a step and answer it, as ``LiveSession`` and ``ended`` do.

        :raise ReceiverError: the step is refused
        """
        record = self.session(session)
        participant = transitions.find(record, host)
        step = STEP.validate_python({"step": name, "facts": facts})
        if participant is None and name == "joined" and not record.state.ended:
            transitions.join(record, host, now=NOW)
        elif participant is None and name == "failed" and not record.state.ended:
            transitions.fail(record, host, now=NOW, reason="it broke")
        elif participant and steps.counts(step, record, participant):
            steps.apply(step, record, participant, now=NOW)
        return steps.FINAL_ORDERS.get(step.step) or _order(transitions.find(record, host), record)


def _order(participant: Participant | None, record: Session) -> Order:
    return order_for(participant.state, record.state) if participant else Order.ABORT


class Host:
    """A hypervisor: VMs with their bitmaps, and at most one participant."""

    def __init__(self, name: str, receiver: Receiver) -> None:
        self.name = name
        self.receiver = receiver
        self.vms = [Vm(vm) for vm in VMS[name]]
        self.process: Process | None = None

    def start(self) -> None:
        """A participant begins with what an earlier one left behind."""
        self.die()
        self.reconcile(None)
        self.process = Process(self.receiver.record.id)

    def die(self) -> None:
        """The watchdog lets VMs run on; bitmaps stay as they are."""
        self.process = None
        for vm in self.vms:
            vm.stopped, vm.frozen = False, None

    def reconcile(self, given_up: str | None) -> None:
        """Remove what the receiver's verdict names, and the bitmaps of a session given up."""
        running = {self.receiver.live.id} if self.receiver.live else set()
        for vm in self.vms:
            committed = self.receiver.committed_points(vm.name)
            seen = [SeenBitmap(point=point, healthy=each.healthy) for point, each in vm.bitmaps.items()]
            disk = SeenDisk(disk=DISK, virtual_size=SIZE, bitmaps=seen)
            verdict = judge_disk(disk, committed=committed, open_sessions=running)
            head = max(committed, default=None)
            for point in verdict.remove:
                assert point != head or not vm.bitmaps[point].healthy, "the head's bitmap was removed"
                assert point not in running, "a bitmap of a running session was removed"
            for point in [*verdict.remove, *([given_up] if given_up else [])]:
                vm.bitmaps.pop(point, None)
            left = {point: each for point, each in vm.bitmaps.items() if point not in running}
            assert len(left) <= 1, "more than one checkpoint is left"
            assert all(each.healthy for each in left.values()), "a bitmap that says nothing is left"

    def report(self, *, request_lost: bool, answer_lost: bool, left_out: str | None) -> None:
        """Send the current step once; go on if the answer arrives."""
        assert self.process
        if request_lost:
            return
        step, session = "failed" if self.process.broken else self.process.step, self.process.session
        if step == "joined":
            self.receiver.reports[self.name] = [_report(vm) for vm in self.vms]
        if step == "transferred":
            self._send()
        try:
            order = self.receiver.take_step(self.name, step, self._facts(step, left_out), session)
        except ReceiverError:
            self.die()
            return
        if not answer_lost:
            self._obey(order)

    def _obey(self, order: Order) -> None:
        assert self.process
        point = self.process.session
        if order is Order.PREPARE:
            for vm in self.vms:
                vm.bitmaps.setdefault(point, Bitmap())
            self.process.step = "prepared"
        elif order is Order.STOP:
            for vm in self.vms:
                vm.stopped = True
            self.process.step = "stopped"
        elif order is Order.CUT:
            self._cut()
        elif order is Order.TRANSFER:
            self.process.step = "transferred"
        elif order in (Order.FINISH, Order.ABORT):
            self.reconcile(point if order is Order.ABORT else None)
            self.process.step, self.process.broken = "finished", False
        elif order is Order.LEAVE:
            self.die()

    def _cut(self) -> None:
        assert self.process
        if self.process.step == "stopped":
            record = self.receiver.session(self.process.session)
            early = [each.host for each in record.participants if each.state in BEFORE_STOP]
            assert not early, f"{early} still run while {self.name} is cut"
            for vm in self.vms:
                vm.freeze()
                vm.stopped = False
        self.process.step = "cut"

    def _send(self) -> None:
        """The layers that this host's data makes, as they would read with their chains."""
        for disk in self.receiver.session(self.process.session if self.process else "").disks:
            vm = next((each for each in self.vms if each.name == disk.vm), None)
            if vm and vm.frozen and disk.state is not TransferState.FAILED:
                content, since = vm.frozen
                if disk.level is Level.INCREMENTAL and disk.parent:
                    assert disk.parent in since, f"{vm.name} has lost the bitmap of {disk.parent}"
                    made = self.receiver.content[disk.parent, vm.name] | since[disk.parent]
                    assert made == content, f"{vm.name}: the increment has a gap"
                self.receiver.received[vm.name] = content

    def _facts(self, step: str, left_out: str | None) -> dict[str, object]:
        vms = [vm.name for vm in self.vms if vm.name != left_out]
        disk = {"disk": DISK, "dirty_bytes": 1, "virtual_size": SIZE}
        facts: dict[str, dict[str, object]] = {
            "joined": {"vms": [_report(vm) for vm in self.vms]},
            "prepared": {},
            "stopped": {"vms": [{"vm": vm, "consistency": "crash"} for vm in vms]},
            "cut": {
                "vms": [{"vm": vm, "pause_ms": 1, "consistency": "crash", "disks": [disk]} for vm in vms]
            },
            "transferred": {"disks": [{"vm": vm, "disk": DISK, "sent_bytes": 1} for vm in vms]},
            "failed": {"reason": "it broke"},
            "finished": {"removed": []},
        }
        return facts[step]


def _report(vm: Vm) -> VmReport:
    bitmaps = [BitmapReport(point=point, healthy=each.healthy) for point, each in vm.bitmaps.items()]
    disk = DiskReport(
        disk=DISK, node="n", format="qcow2", virtual_size=SIZE, tracked=True, persistent=True, bitmaps=bitmaps
    )
    return VmReport.model_validate(
        {
            "vm": vm.name,
            "running": True,
            "agent": "absent",
            "qemu_version": "7.2.22",
            "capabilities": [],
            "disks": [disk],
        }
    )
