# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import timedelta

from sample_steps import NOW, SESSION_ID, apply, planned_session

from livebackup_receiver.coordinator import transitions
from livebackup_receiver.coordinator.receipt import receipt_of
from livebackup_receiver.model import Policy, Session, SessionState

CUT_AT = NOW + timedelta(seconds=5)


def received(session: Session) -> Session:
    """The session, once everything has arrived."""
    transitions.enter(session, SessionState.STOPPING, now=NOW)
    transitions.enter(session, SessionState.CUTTING, now=CUT_AT)
    return session


def test_the_cut_is_when_all_vms_stood_still() -> None:
    receipt = receipt_of(received(planned_session()))
    assert receipt.cut_at == CUT_AT
    assert receipt.session == SESSION_ID
    assert [each.vm for each in receipt.transfers] == ["app", "db", "web"]
    assert receipt.complete


def test_a_point_without_a_failed_host_is_incomplete() -> None:
    session = planned_session(Policy.EACH)
    apply(session, "hv2", "failed")
    receipt = receipt_of(received(session))
    assert [each.vm for each in receipt.transfers] == ["app", "db"]
    assert not receipt.complete


def test_a_point_without_a_host_that_never_joined_is_incomplete() -> None:
    session = planned_session(Policy.EACH)
    session.hosts.append("hv3")
    assert not receipt_of(received(session)).complete
