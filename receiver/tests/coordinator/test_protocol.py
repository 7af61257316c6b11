# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every interleaving of messages, losses, duplicates and restarts ends in a commit or an abort whose bitmaps
reconcile.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from protocol_world import HOST_OF, Bitmap, Host, Receiver
from sample_steps import VMS

from livebackup_receiver.coordinator import transitions
from livebackup_receiver.coordinator.attendance import NEEDED
from livebackup_receiver.model import Policy, SessionState

HOSTS = st.sampled_from(sorted(VMS))
VM_NAMES = st.sampled_from(sorted(HOST_OF))
# Most messages arrive.
RARELY = st.integers(0, 5).map(lambda number: number == 0)
# Far more exchanges than a session without losses needs.
ENOUGH = 40


class Protocol(RuleBasedStateMachine):
    """One receiver and two hosts, of which anything may go wrong at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.receiver = Receiver()
        self.hosts = {name: Host(name, self.receiver) for name in VMS}
        self.vms = {vm.name: vm for host in self.hosts.values() for vm in host.vms}
        self.writes = 0
        self.committed: set[str] = set()

    @precondition(lambda self: self.receiver.live is None)
    @rule(policy=st.sampled_from(Policy))
    def open(self, policy: Policy) -> None:
        self.receiver.open(policy)

    @precondition(lambda self: self.receiver.live is not None)
    @rule(name=HOSTS)
    def start(self, name: str) -> None:
        """A participant starts; one that ran already, even in the same session, is gone."""
        self.hosts[name].start()

    @rule(name=HOSTS, request_lost=RARELY, answer_lost=RARELY, leave_out=RARELY, vm=VM_NAMES)
    def report(self, name: str, request_lost: bool, answer_lost: bool, leave_out: bool, vm: str) -> None:
        """A step is sent, or sent again; under the policy each a VM may be left out of it."""
        process = self.hosts[name].process
        if process is None:
            return
        each = self.receiver.session(process.session).policy is Policy.EACH
        self.hosts[name].report(
            request_lost=request_lost, answer_lost=answer_lost, left_out=vm if leave_out and each else None
        )

    @precondition(lambda self: self.receiver.live is not None)
    @rule(times=st.integers(1, 3))
    def advance(self, times: int) -> None:
        for dummy in range(times):
            if self.receiver.live:
                self.receiver.advance()

    @rule(name=VM_NAMES)
    def write(self, name: str) -> None:
        if not self.vms[name].stopped:
            self.writes += 1
            self.vms[name].write(self.writes)

    @rule(name=HOSTS)
    def participant_dies(self, name: str) -> None:
        self.hosts[name].die()

    @rule(name=HOSTS)
    def participant_breaks(self, name: str) -> None:
        """Something of its own fails, and it can still say so."""
        process = self.hosts[name].process
        if process and process.step not in ("finished", "transferred"):
            process.broken = True

    @rule(name=VM_NAMES, kept=st.booleans())
    def qemu_is_killed(self, name: str, kept: bool) -> None:
        """Its bitmaps are inconsistent or gone; what was frozen is lost, so its participant breaks."""
        vm = self.vms[name]
        vm.bitmaps = {point: Bitmap(healthy=False) for point in vm.bitmaps} if kept else {}
        vm.frozen, vm.stopped = None, False
        process = self.hosts[HOST_OF[name]].process
        if process and process.step != "finished":
            process.broken = True

    @precondition(lambda self: self.receiver.live is not None)
    @rule(name=HOSTS)
    def host_is_silent(self, name: str) -> None:
        """The coordinator gives up a host that has died, or that never joined."""
        if self.hosts[name].process is None:
            self._give_up(name)

    @rule(noted=st.booleans())
    def receiver_restarts(self, noted: bool) -> None:
        """With the newest state of its session in the catalog, or with an older one."""
        if noted and self.receiver.live:
            self.receiver.note()
        self.receiver.restart()

    @precondition(lambda self: self.receiver.live is not None)
    @rule()
    def operator_aborts(self) -> None:
        self.receiver.end(SessionState.ABORTED, "aborted on request")

    @invariant()
    def committed_stays_committed(self) -> None:
        sessions = self.receiver.catalog.values()
        now = {each.id for each in sessions if each.state is SessionState.COMMITTED}
        assert now == {point for point, dummy in self.receiver.content}
        assert now >= self.committed
        self.committed = now

    def teardown(self) -> None:
        """Whatever has happened: the session ends, and one more without faults is clean."""
        self._settle()
        assert self.receiver.live is None
        self.receiver.open(Policy.ALL)
        session = self.receiver.record.id
        for host in self.hosts.values():
            host.start()
        self._settle()
        assert self.receiver.catalog[session].state is SessionState.COMMITTED
        assert {name: list(vm.bitmaps) for name, vm in self.vms.items()} == {
            name: [session] for name in self.vms
        }
        for name, vm in self.vms.items():
            assert self.receiver.content[session, name] == vm.written

    def _settle(self) -> None:
        """Nothing is lost any more: everyone goes on until nobody has anything to say."""
        for dummy in range(ENOUGH):
            for name, host in self.hosts.items():
                if host.process:
                    host.report(request_lost=False, answer_lost=False, left_out=None)
                elif self.receiver.live:
                    self._give_up(name)
            if self.receiver.live:
                self.receiver.advance()
        assert not any(host.process for host in self.hosts.values())

    def _give_up(self, name: str) -> None:
        record = self.receiver.record
        participant = transitions.find(record, name)
        late = participant is None and record.state is SessionState.JOINING
        if late or (participant and participant.state in NEEDED):
            transitions.fail(record, name, now=record.opened_at, reason="it is silent")


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(
    derandomize=True,
    max_examples=150,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
