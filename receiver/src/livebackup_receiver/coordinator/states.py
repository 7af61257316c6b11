# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state machines of session, participant and transfer, as tables; pure.

A transition that is not in its table does not happen: ``advance`` is the only way to a next state.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from livebackup_receiver.coordinator.orders import Order
from livebackup_receiver.errors import TransitionRefused
from livebackup_receiver.model import ParticipantState as Participant
from livebackup_receiver.model import SessionState as Session
from livebackup_receiver.model import TransferState as Transfer

State = TypeVar("State", bound=StrEnum)
Table = Mapping[State, frozenset[State]]

SESSION: Table[Session] = {
    Session.JOINING: frozenset({Session.PREPARING, Session.ABORTED}),
    Session.PREPARING: frozenset({Session.STOPPING, Session.ABORTED}),
    Session.STOPPING: frozenset({Session.CUTTING, Session.ABORTED}),
    Session.CUTTING: frozenset({Session.TRANSFERRING, Session.ABORTED}),
    Session.TRANSFERRING: frozenset({Session.SEALING, Session.ABORTED}),
    Session.SEALING: frozenset({Session.COMMITTED, Session.ABORTED}),
    Session.COMMITTED: frozenset(),
    Session.ABORTED: frozenset(),
}

# Every state may finish: after an abort a participant cleans up wherever it was. One that has
# transferred everything cannot fail any more: the point does not need it.
PARTICIPANT: Table[Participant] = {
    Participant.JOINED: frozenset({Participant.PREPARED, Participant.FAILED, Participant.FINISHED}),
    Participant.PREPARED: frozenset({Participant.STOPPED, Participant.FAILED, Participant.FINISHED}),
    Participant.STOPPED: frozenset({Participant.CUT, Participant.FAILED, Participant.FINISHED}),
    Participant.CUT: frozenset(
        {Participant.TRANSFERRING, Participant.TRANSFERRED, Participant.FAILED, Participant.FINISHED}
    ),
    Participant.TRANSFERRING: frozenset({Participant.TRANSFERRED, Participant.FAILED, Participant.FINISHED}),
    Participant.TRANSFERRED: frozenset({Participant.FINISHED}),
    Participant.FINISHED: frozenset(),
    Participant.FAILED: frozenset(),
}

TRANSFER: Table[Transfer] = {
    Transfer.PLANNED: frozenset({Transfer.CUT, Transfer.FAILED}),
    Transfer.CUT: frozenset({Transfer.TRANSFERRING, Transfer.TRANSFERRED, Transfer.FAILED}),
    Transfer.TRANSFERRING: frozenset({Transfer.TRANSFERRED, Transfer.FAILED}),
    Transfer.TRANSFERRED: frozenset({Transfer.SEALED, Transfer.FAILED}),
    Transfer.SEALED: frozenset({Transfer.FAILED}),
    Transfer.FAILED: frozenset(),
}

# What a participant in a state is told, and from which state of the session on.
RELEASES: Mapping[Participant, tuple[Session, Order]] = {
    Participant.JOINED: (Session.PREPARING, Order.PREPARE),
    Participant.PREPARED: (Session.STOPPING, Order.STOP),
    Participant.STOPPED: (Session.CUTTING, Order.CUT),
    Participant.CUT: (Session.CUTTING, Order.TRANSFER),
    Participant.TRANSFERRING: (Session.CUTTING, Order.TRANSFER),
    Participant.TRANSFERRED: (Session.COMMITTED, Order.FINISH),
}

PROGRESS: list[Session] = list(Session)


def advance(table: Table[State], subject: str, current: State, target: State) -> State:
    """The target, if the table leads there from the current state.

    :raise TransitionRefused: it does not
    """
    if target not in table[current]:
        raise TransitionRefused(subject, current, target)
    return target


def order_for(participant: Participant, session: Session) -> Order:
    """What a participant is told, ``wait`` if it is not yet its turn."""
    if participant is Participant.FINISHED:
        return Order.LEAVE
    if session is Session.ABORTED or participant is Participant.FAILED:
        return Order.ABORT
    due, order = RELEASES[participant]
    return order if PROGRESS.index(session) >= PROGRESS.index(due) else Order.WAIT
