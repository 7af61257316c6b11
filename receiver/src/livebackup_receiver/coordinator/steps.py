# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each reported step does to a session's record; no I/O.

A step may come twice, after a lost connection, and then changes nothing but its facts. Under the
policy ``each`` a VM that a step leaves out is left out of the point; under ``all`` that is an error.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from livebackup_receiver.coordinator import transitions
from livebackup_receiver.coordinator.orders import Order
from livebackup_receiver.coordinator.progress import note_progress
from livebackup_receiver.coordinator.reports import (
    AnyStep,
    CutFacts,
    CutStep,
    CutVm,
    FailedStep,
    FinishedStep,
    JoinedStep,
    PreparedStep,
    StoppedFacts,
    StoppedStep,
    TransferredFacts,
    TransferredStep,
    TransferringFacts,
    TransferringStep,
)
from livebackup_receiver.errors import BodyInvalid, StepUnexpected
from livebackup_receiver.model import (
    Level,
    Participant,
    ParticipantState,
    Policy,
    Session,
    Transfer,
    TransferState,
)

# Two steps end a participant's work, and are answered so whatever the session does.
FINAL_ORDERS: Mapping[ParticipantState, Order] = {
    ParticipantState.FAILED: Order.ABORT,
    ParticipantState.FINISHED: Order.LEAVE,
}


def counts(step: AnyStep, session: Session, participant: Participant) -> bool:
    """Whether a step still changes anything; one that comes too late is only answered."""
    late = session.state.ended or participant.state is ParticipantState.FAILED
    return not late or isinstance(step, FinishedStep)


def apply(step: AnyStep, session: Session, participant: Participant, *, now: datetime) -> None:
    """Change the record by a step of a participant that has joined.

    :raise TransitionRefused: the step does not follow from where the participant is
    :raise StepUnexpected: it joins a second time, or finishes while the session runs
    :raise BodyInvalid: the facts do not fit the plan
    """
    match step:
        case JoinedStep():
            _require(participant.state is ParticipantState.JOINED, step, participant)
        case PreparedStep():
            transitions.move(session, participant, ParticipantState.PREPARED, now=now)
        case StoppedStep():
            _stopped(step.facts, session, participant, now)
        case CutStep():
            _cut(step.facts, session, participant, now)
        case TransferringStep():
            _transferring(step.facts, session, participant, now)
        case TransferredStep():
            _transferred(step.facts, session, participant, now)
        case FailedStep():
            transitions.fail(session, participant.host, now=now, reason=step.facts.reason)
        case FinishedStep():
            finish(step, session, participant, now=now)


def finish(step: FinishedStep, session: Session, participant: Participant, *, now: datetime) -> None:
    """A participant has cleaned up; one that failed stays so in the record.

    :raise StepUnexpected: the session still needs it
    """
    failed = participant.state is ParticipantState.FAILED
    _require(session.state.ended or failed, step, participant)
    if not failed:
        removed = ", ".join(step.facts.removed)
        transitions.move(
            session,
            participant,
            ParticipantState.FINISHED,
            now=now,
            reason=f"removed {removed}" if removed else None,
        )


def _stopped(facts: StoppedFacts, session: Session, participant: Participant, now: datetime) -> None:
    _drop_missing({vm.vm for vm in facts.vms}, session, participant, now)
    for vm in facts.vms:
        for transfer in _transfers(session, participant.host, vm.vm):
            transfer.consistency = vm.consistency
    transitions.move(session, participant, ParticipantState.STOPPED, now=now)


def _cut(facts: CutFacts, session: Session, participant: Participant, now: datetime) -> None:
    _drop_missing({vm.vm for vm in facts.vms}, session, participant, now)
    resized = [problem for vm in facts.vms if (problem := _cut_vm(vm, session, participant.host))]
    transitions.move(session, participant, ParticipantState.CUT, now=now)
    if resized:
        transitions.fail(session, participant.host, now=now, reason=resized[0])
    disks = _transfers(session, participant.host)
    transitions.move_transfers(
        (disk for disk in disks if disk.state is TransferState.PLANNED), session, TransferState.CUT, now=now
    )


def _cut_vm(vm: CutVm, session: Session, host: str) -> str | None:
    """Take over the facts of a VM's cut; what is wrong with it, if anything is."""
    seen = {disk.disk: disk for disk in vm.disks}
    for transfer in _transfers(session, host, vm.vm):
        disk = seen.get(transfer.disk)
        if disk is None:
            raise BodyInvalid("facts.vms.disks", f"disk {transfer.disk} of VM {vm.vm} is missing")
        transfer.pause_ms, transfer.consistency = vm.pause_ms, vm.consistency
        transfer.total_bytes = disk.dirty_bytes
        # what is dirty of a resync, its comparison will show
        transfer.dirty_bytes = None if transfer.level is Level.RESYNC else disk.dirty_bytes
        if disk.virtual_size != transfer.virtual_size:
            return (
                f"VM {vm.vm}: disk {disk.disk} changed its size from {transfer.virtual_size} to "
                f"{disk.virtual_size} bytes while it was being backed up"
            )
    return None


def _transferring(
    facts: TransferringFacts, session: Session, participant: Participant, now: datetime
) -> None:
    transitions.move(session, participant, ParticipantState.TRANSFERRING, now=now)
    for progress in facts.disks:
        transfer = _transfer(session, participant.host, progress.vm, progress.disk)
        note_progress(transfer, progress.done_bytes, progress.total_bytes, progress.sent_bytes, now=now)
        if transfer.state is TransferState.CUT:
            transitions.move_transfers([transfer], session, TransferState.TRANSFERRING, now=now)


def _transferred(facts: TransferredFacts, session: Session, participant: Participant, now: datetime) -> None:
    sent = {(disk.vm, disk.disk): disk for disk in facts.disks}
    mine = _transfers(session, participant.host)
    _drop_missing(
        _vms(mine) - {disk.vm for disk in mine if (disk.vm, disk.disk) not in sent}, session, participant, now
    )
    transitions.move(session, participant, ParticipantState.TRANSFERRED, now=now)
    for transfer in _transfers(session, participant.host):
        disk = sent[transfer.vm, transfer.disk]
        transfer.sent_bytes = disk.sent_bytes
        if disk.dirty_bytes is not None:
            transfer.dirty_bytes = disk.dirty_bytes
        transfer.done_bytes = transfer.total_bytes
        transfer.bytes_per_s = transfer.remaining_s = None
    transitions.move_transfers(
        _transfers(session, participant.host), session, TransferState.TRANSFERRED, now=now
    )


def _drop_missing(listed: Collection[str], session: Session, participant: Participant, now: datetime) -> None:
    for vm in sorted(_vms(_transfers(session, participant.host)) - set(listed)):
        if session.policy is Policy.ALL:
            raise BodyInvalid("facts", f"VM {vm} of the plan, or one of its disks, is missing")
        transitions.fail_transfers(
            _transfers(session, participant.host, vm),
            session,
            now=now,
            reason=f"{participant.host} left it out",
        )


def _transfers(session: Session, host: str, vm: str | None = None) -> list[Transfer]:
    """The transfers of a host, or of one of its VMs, that have not failed."""
    return [
        disk
        for disk in session.disks
        if disk.host == host and vm in (None, disk.vm) and disk.state is not TransferState.FAILED
    ]


def _transfer(session: Session, host: str, vm: str, disk: str) -> Transfer:
    for transfer in _transfers(session, host, vm):
        if transfer.disk == disk:
            return transfer
    raise BodyInvalid("facts.disks", f"disk {disk} of VM {vm} is not in the plan of {host}")


def _vms(transfers: Collection[Transfer]) -> set[str]:
    return {transfer.vm for transfer in transfers}


def _require(condition: bool, step: AnyStep, participant: Participant) -> None:
    if not condition:
        raise StepUnexpected(participant.host, step.step, participant.state)
