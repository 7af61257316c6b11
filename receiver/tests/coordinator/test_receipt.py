# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import timedelta

from sample_steps import NOW, SESSION_ID, VMS, apply, planned_session

from livebackup_receiver.coordinator import transitions
from livebackup_receiver.coordinator.receipt import receipt_of
from livebackup_receiver.model import Policy, Session, SessionState, TransferState

CUT_AT = NOW + timedelta(seconds=5)


def received(session: Session) -> Session:
    """The session, once everything has arrived from the hosts that have not failed."""
    transitions.enter(session, SessionState.STOPPING, now=NOW)
    transitions.enter(session, SessionState.CUTTING, now=CUT_AT)
    for host in VMS:
        for step in ("prepared", "stopped", "cut", "transferred"):
            apply(session, host, step)
    return session


def test_what_has_not_arrived_is_no_part_of_it() -> None:
    session = received(planned_session())
    session.disks[0].state = TransferState.PLANNED
    receipt = receipt_of(session)
    assert [each.vm for each in receipt.transfers] == ["db", "web"]
    assert not receipt.complete


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
