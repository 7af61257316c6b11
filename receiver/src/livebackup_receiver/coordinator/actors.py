# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each actor of a session last said and when, and what it waits for; pure."""

from __future__ import annotations

from livebackup_receiver.coordinator import transitions
from livebackup_receiver.coordinator.orders import Order
from livebackup_receiver.coordinator.states import PROGRESS, order_for
from livebackup_receiver.model import (
    Model,
    Moment,
    Participant,
    ParticipantState,
    Session,
    SessionState,
)

COORDINATOR, STORAGE_DAEMON = "coordinator", "storage daemon"
# The state that every participant must reach before the session leaves one of its own.
AWAITED = {
    SessionState.JOINING: ParticipantState.JOINED,
    SessionState.PREPARING: ParticipantState.PREPARED,
    SessionState.STOPPING: ParticipantState.STOPPED,
    SessionState.CUTTING: ParticipantState.CUT,
    SessionState.TRANSFERRING: ParticipantState.TRANSFERRED,
}
OWN_WORK = {
    SessionState.JOINING: "its plan, layers and storage daemon",
    SessionState.SEALING: "flush, check and digests of its layers",
}
STEPS = list(ParticipantState)


class Said(Model):
    """The newest word of an actor."""

    what: str
    at: Moment


class Actor(Model):
    """One actor; ``waits_for`` is empty for one that is at work itself or has nothing left to do."""

    name: str
    state: str
    said: str | None
    at: Moment | None
    waits_for: str


def actors_of(session: Session, daemon: Said | None) -> list[Actor]:
    """The coordinator, every host, and the storage daemon if it runs."""
    absent = [host for host in session.hosts if transitions.find(session, host) is None]
    return [
        _coordinator(session, absent),
        *(_participant(each, session) for each in session.participants),
        *(_absent(host) for host in absent if not session.state.ended),
        *([_daemon(daemon)] if daemon else []),
    ]


def _coordinator(session: Session, absent: list[str]) -> Actor:
    last = next((each for each in reversed(session.transitions) if each.subject == transitions.SESSION), None)
    return Actor(
        name=COORDINATOR,
        state=session.state,
        said=session.alarm or (last.reason if last else None),
        at=last.at if last else None,
        waits_for=_barrier(session, absent),
    )


def _barrier(session: Session, absent: list[str]) -> str:
    """Whom the coordinator waits for, and to do what."""
    if session.state.ended:
        late = [each.host for each in session.participants if each.state is not ParticipantState.FINISHED]
        return f"{', '.join(late)} to finish" if late else ""
    awaited = AWAITED.get(session.state)
    behind = [*absent, *(each.host for each in session.participants if awaited and _is_behind(each, awaited))]
    if awaited and behind:
        return f"{', '.join(behind)} to be {awaited}"
    return OWN_WORK.get(session.state, "")


def _is_behind(participant: Participant, awaited: ParticipantState) -> bool:
    failed = participant.state is ParticipantState.FAILED
    return not failed and STEPS.index(participant.state) < STEPS.index(awaited)


def _participant(participant: Participant, session: Session) -> Actor:
    order = order_for(participant.state, session.state)
    waiting = order is Order.WAIT
    return Actor(
        name=participant.host,
        state=participant.state,
        said=participant.reason or (f"it is {participant.state}" if waiting else f"told to {order}"),
        at=participant.heard_at,
        waits_for=_next_state(session) if waiting else "",
    )


def _next_state(session: Session) -> str:
    after = PROGRESS.index(session.state) + 1
    return f"the session to be {PROGRESS[after]}"


def _absent(host: str) -> Actor:
    return Actor(name=host, state="not joined", said=None, at=None, waits_for="")


def _daemon(said: Said) -> Actor:
    return Actor(name=STORAGE_DAEMON, state="running", said=said.what, at=said.at, waits_for="")
