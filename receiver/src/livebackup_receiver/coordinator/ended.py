# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps in sessions that have ended: participants still learn how, and report that they are done."""

from __future__ import annotations

from livebackup_receiver import faultpoints
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.sessions import add_to_history, load_outline
from livebackup_receiver.clock import now
from livebackup_receiver.coordinator import steps, transitions
from livebackup_receiver.coordinator.orders import Answer, Order
from livebackup_receiver.coordinator.reports import AnyStep, FinishedStep
from livebackup_receiver.coordinator.states import order_for
from livebackup_receiver.errors import HostUnknown
from livebackup_receiver.model import Session


def take_late_step(catalog: Catalog, session_id: str, host: str, step: AnyStep) -> Answer:
    """Answer a participant of an ended session, out of the catalog.

    :raise SessionUnknown: there never was such a session
    :raise HostUnknown: the host was not one of it
    """
    with catalog.write() as db:
        session = load_outline(db, session_id)
        if host not in session.hosts:
            raise HostUnknown(host, session_id)
        participant = transitions.find(session, host)
        if participant and isinstance(step, FinishedStep):
            steps.finish(step, session, participant, now=now())
            add_to_history(db, session)
    faultpoints.reached(f"receiver.{step.step}-taken")
    answer = _answer(session, host, step)
    faultpoints.reached(f"receiver.{step.step}-answered")
    return answer


def _answer(session: Session, host: str, step: AnyStep) -> Answer:
    participant = transitions.find(session, host)
    order = order_for(participant.state, session.state) if participant else Order.ABORT
    reason = session.reason or (participant.reason if participant and order is Order.ABORT else None)
    return Answer(order=steps.FINAL_ORDERS.get(step.step, order), session_state=session.state, reason=reason)
