# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A live session: its record, the participants that wait in it, and the barriers between them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from livebackup_receiver import faultpoints
from livebackup_receiver.catalog.journal import Journal
from livebackup_receiver.clock import now
from livebackup_receiver.coordinator import steps, transitions
from livebackup_receiver.coordinator.actors import Actor, Said, actors_of
from livebackup_receiver.coordinator.attendance import Attendance
from livebackup_receiver.coordinator.bandwidth import disk_speed
from livebackup_receiver.coordinator.orders import Answer, Order, Plan
from livebackup_receiver.coordinator.plan import check_reports
from livebackup_receiver.coordinator.reports import AnyStep, FailedStep, JoinedStep, VmReport
from livebackup_receiver.coordinator.states import order_for
from livebackup_receiver.errors import (
    HostUnknown,
    NobodyLeft,
    ParticipantFailed,
    ReceiverError,
    StepUnexpected,
    VmBusy,
)
from livebackup_receiver.events import Feed, SessionChanged
from livebackup_receiver.model import Participant, ParticipantState, Policy, Session, SessionState
from livebackup_receiver.storage_daemon.process import StorageDaemon

log = logging.getLogger(__name__)

# How often deadlines and room are looked at while nothing happens.
TICK_S = 0.5
ORDER = list(ParticipantState)


class LiveSession:
    """A session that has not ended; every change is made under ``changed``, and tells it."""

    def __init__(
        self,
        record: Session,
        *,
        stop_budget_s: float,
        silence_s: float,
        journal: Journal,
        feed: Feed,
        speed_limit: int | None = None,
    ) -> None:
        self.record = record
        self.speed_limit = speed_limit
        self.stop_budget_s = stop_budget_s
        self.attendance = Attendance(silence_s=silence_s, stop_budget_s=stop_budget_s)
        self.reports: dict[str, list[VmReport]] = {}
        self.plans: dict[str, Plan] = {}
        self.changed = asyncio.Condition()
        self.trouble: asyncio.Future[ReceiverError] = asyncio.get_running_loop().create_future()
        # From here on the outcome is the catalog's to say.
        self.committing: Session | None = None
        self.daemon: StorageDaemon | None = None
        self._journal = journal
        self._feed = feed

    def actors(self) -> list[Actor]:
        """What everyone last said, and waits for."""
        return actors_of(self.record, _word_of(self.daemon) if self.daemon else None)

    def interrupt(self, error: ReceiverError) -> None:
        """End the session for this reason, whatever it is doing, unless it is being committed."""
        if not self.trouble.done():
            self.trouble.set_result(error)

    async def enter(self, state: SessionState, reason: str | None = None) -> None:
        """Bring the session to a state and tell everyone who waits for it."""
        async with self.changed:
            transitions.enter(self.record, state, now=now(), reason=reason)
            self.announce(entered=True)

    def announce(self, *, entered: bool) -> None:
        """Tell waiting participants, the journal and the feed; ``changed`` is held.

        :param entered: a state has changed, not only progress
        """
        self.changed.notify_all()
        if entered:
            self._journal.note(self.record)
        self._feed.publish(SessionChanged.of(self.record, entered=entered))

    async def take_step(self, host: str, step: AnyStep, *, holder_of: Callable[[str], str | None]) -> Answer:
        """Record a participant's step and answer with its order, waiting for it up to ``wait_s``.

        :param holder_of: who else has a VM in use, if anyone
        :raise ReceiverError: the step is refused; see ``steps.apply`` and ``plan.check_reports``
        """
        async with self.changed:
            self._record(host, step, holder_of)
            faultpoints.reached(f"receiver.{step.step}-taken")
            with self.attendance.listening(host), suppress(TimeoutError):
                async with asyncio.timeout(step.wait_s):
                    await self.changed.wait_for(
                        lambda: self._order(host) is not Order.WAIT or step.step in steps.FINAL_ORDERS
                    )
            answer = self._answer(host, step)
        faultpoints.reached(f"receiver.{step.step}-answered")
        return answer

    async def barrier(self, state: ParticipantState, *, look: Callable[[], None]) -> None:
        """Wait until every participant that has not failed has reached a state.

        :param look: called now and then; raises if the session cannot go on
        :raise ParticipantFailed: one failed, and the policy is ``all``
        :raise NobodyLeft: all failed
        :raise ReceiverError: whatever ``look`` raises
        """
        async with self.changed:
            while not self.reached(state):
                with suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S):
                        await self.changed.wait()
                look()

    def fail(self, host: str, reason: str) -> None:
        """Count a host as failed; ``changed`` is held."""
        transitions.fail(self.record, host, now=now(), reason=reason)
        self.announce(entered=True)

    def raise_alarm(self, alarm: str | None) -> None:
        """Tell everyone that the session needs a person, or None: no longer; ``changed`` is held."""
        if alarm == self.record.alarm:
            return
        self.record.alarm = alarm
        log.warning("session %s: %s", self.record.id, alarm or "there is progress again")
        self._journal.note(self.record)
        self._feed.publish(SessionChanged.of(self.record, entered=True, alarm=alarm))

    @property
    def present(self) -> list[Participant]:
        """The participants that have not failed."""
        return [each for each in self.record.participants if each.state is not ParticipantState.FAILED]

    def reached(self, state: ParticipantState) -> bool:
        """Whether all that have not failed are at a state, or further.

        :raise ParticipantFailed: one failed, and the policy is ``all``
        :raise NobodyLeft: all failed
        """
        failed = [each for each in self.record.participants if each.state is ParticipantState.FAILED]
        if failed and self.record.policy is Policy.ALL:
            raise ParticipantFailed(self.record.id, failed[0].host, failed[0].reason or "no reason given")
        if len(failed) == len(self.record.hosts):
            raise NobodyLeft(self.record.id, "; ".join(f"{each.host}: {each.reason}" for each in failed))
        everyone = len(self.record.participants) == len(self.record.hosts)
        return everyone and all(ORDER.index(each.state) >= ORDER.index(state) for each in self.present)

    def _record(self, host: str, step: AnyStep, holder_of: Callable[[str], str | None]) -> None:
        if host not in self.record.hosts:
            raise HostUnknown(host, self.record.id)
        before = len(self.record.transitions)
        try:
            self._apply(host, step, holder_of)
        finally:
            self._heard(host)
            self.announce(entered=len(self.record.transitions) > before)

    def _apply(self, host: str, step: AnyStep, holder_of: Callable[[str], str | None]) -> None:
        participant = transitions.find(self.record, host)
        if participant and steps.counts(step, self.record, participant):
            steps.apply(step, self.record, participant, now=now())
        elif participant is None and isinstance(step, JoinedStep):
            self._join(host, step, holder_of)
        elif participant is None and isinstance(step, FailedStep):
            # It found out before it could join; the others need not wait until it should have.
            transitions.fail(self.record, host, now=now(), reason=step.facts.reason)
        elif participant is None and not self.record.state.ended:
            raise StepUnexpected(host, step.step, "not joined")

    def _heard(self, host: str) -> None:
        self.attendance.hear(host)
        if participant := transitions.find(self.record, host):
            participant.heard_at = now()

    def _join(self, host: str, step: JoinedStep, holder_of: Callable[[str], str | None]) -> None:
        """A host joins; one that is refused has failed, so that the others need not wait for it."""
        try:
            check_reports(host, step.facts.vms)
            self._require_idle(step.facts.vms, holder_of)
        except ReceiverError as error:
            transitions.fail(self.record, host, now=now(), reason=str(error))
            raise
        self.reports[host] = step.facts.vms
        transitions.join(self.record, host, now=now())

    def _require_idle(self, vms: list[VmReport], holder_of: Callable[[str], str | None]) -> None:
        for vm in vms:
            if holder := holder_of(vm.vm):
                raise VmBusy(vm.vm, holder)

    def _order(self, host: str) -> Order:
        participant = transitions.find(self.record, host)
        return order_for(participant.state, self.record.state) if participant else Order.ABORT

    def _answer(self, host: str, step: AnyStep) -> Answer:
        participant = transitions.find(self.record, host)
        order = steps.FINAL_ORDERS.get(step.step) or self._order(host)
        return Answer(
            order=order,
            session_state=self.record.state,
            reason=self.record.reason
            or (participant.reason if participant and order is Order.ABORT else None),
            plan=self.plans.get(host) if order is Order.PREPARE else None,
            disk_speed=disk_speed(self.record.disks, self.speed_limit) if order is Order.TRANSFER else None,
        )


def _word_of(daemon: StorageDaemon) -> Said:
    command, at, answered = daemon.last_word
    end = daemon.process.returncode
    if end is not None:
        return Said(what=f"ended with {end}, last asked to {command}", at=at)
    return Said(what=f"{command} is done" if answered else f"does not answer {command} yet", at=at)
