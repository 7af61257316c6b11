# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of a session's record along the state tables, each noted with time and reason; no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from livebackup_receiver.coordinator import states
from livebackup_receiver.coordinator.states import advance
from livebackup_receiver.model import (
    MissingVm,
    Participant,
    ParticipantState,
    Session,
    SessionState,
    Transfer,
    TransferState,
    Transition,
)

SESSION = "session"
MISSING = "missing"


def opened(session: Session) -> None:
    """Note the opening of a session."""
    session.transitions.append(
        Transition(at=session.opened_at, subject=SESSION, from_=None, to=session.state)
    )


def enter(session: Session, state: SessionState, *, now: datetime, reason: str | None = None) -> None:
    """Bring the session to a state.

    :raise TransitionRefused: the table does not lead there
    """
    before, session.state = (
        session.state,
        advance(states.SESSION, f"session {session.id}", session.state, state),
    )
    if state.ended:
        session.ended_at = now
    if state is SessionState.ABORTED:
        session.reason = reason
        fail_transfers(session.disks, session, now=now, reason=reason)
    _note(session, SESSION, before, state, now, reason)


def join(session: Session, host: str, *, now: datetime) -> None:
    """A host has joined."""
    participant = Participant(host=host, state=ParticipantState.JOINED, heard_at=now)
    session.participants.append(participant)
    session.participants.sort(key=lambda each: each.host)
    _note(session, host, None, participant.state, now, None)


def move(
    session: Session,
    participant: Participant,
    state: ParticipantState,
    *,
    now: datetime,
    reason: str | None = None,
) -> None:
    """Bring a participant to a state; nothing happens if it is there already.

    :raise TransitionRefused: the table does not lead there
    """
    if participant.state is state:
        return
    before = participant.state
    participant.state = advance(states.PARTICIPANT, f"participant {participant.host}", before, state)
    participant.reason = reason or participant.reason
    _note(session, participant.host, before, state, now, reason)


def fail(session: Session, host: str, *, now: datetime, reason: str) -> None:
    """A host has failed, whether it had joined or not; its disks with it. Once is enough."""
    participant = find(session, host)
    if participant is None:
        join(session, host, now=now)
        participant = find(session, host)
    if participant and ParticipantState.FAILED in states.PARTICIPANT[participant.state]:
        move(session, participant, ParticipantState.FAILED, now=now, reason=reason)
        fail_transfers((disk for disk in session.disks if disk.host == host), session, now=now, reason=reason)


def missing(session: Session, vms: Iterable[MissingVm], *, now: datetime) -> None:
    """VMs of the group have not come."""
    session.missing = list(vms)
    for each in session.missing:
        _note(session, each.vm, None, MISSING, now, each.reason)


def planned(session: Session, transfers: Iterable[Transfer], *, now: datetime) -> None:
    """The session's disks are planned."""
    session.disks = sorted(transfers, key=lambda transfer: (transfer.vm, transfer.disk))
    for transfer in session.disks:
        _note(
            session,
            subject(transfer),
            None,
            transfer.state,
            now,
            f"{transfer.level}: {transfer.level_reason}",
        )


def move_transfers(
    transfers: Iterable[Transfer],
    session: Session,
    state: TransferState,
    *,
    now: datetime,
    reason: str | None = None,
) -> None:
    """Bring transfers to a state; those that are there or have failed stay as they are.

    :raise TransitionRefused: the table does not lead there
    """
    for transfer in transfers:
        if transfer.state in (state, TransferState.FAILED):
            continue
        before, transfer.state = (
            transfer.state,
            advance(states.TRANSFER, subject(transfer), transfer.state, state),
        )
        _note(session, subject(transfer), before, state, now, reason)


def fail_transfers(
    transfers: Iterable[Transfer], session: Session, *, now: datetime, reason: str | None
) -> None:
    """Transfers that will not be part of a point."""
    move_transfers(transfers, session, TransferState.FAILED, now=now, reason=reason)


def find(session: Session, host: str) -> Participant | None:
    """The participant of a host, if it has joined or failed."""
    return next((each for each in session.participants if each.host == host), None)


def subject(transfer: Transfer) -> str:
    """How a transition names a disk."""
    return f"{transfer.vm}/{transfer.disk}"


def _note(
    session: Session, who: str, before: str | None, after: str, now: datetime, reason: str | None
) -> None:
    session.transitions.append(Transition(at=now, subject=who, from_=before, to=after, reason=reason))
