# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_steps import NOW, SIZE, VMS, apply, planned_session

from livebackup_receiver.coordinator import states, transitions
from livebackup_receiver.errors import BodyInvalid, Conflict, Refused, StepUnexpected, TransitionRefused
from livebackup_receiver.model import (
    ParticipantState,
    Policy,
    Session,
    SessionState,
    Transfer,
    TransferState,
)

STEPS = ("prepared", "stopped", "cut", "transferring", "transferred")


def walk(session: Session, host: str, *names: str) -> None:
    for name in names:
        apply(session, host, name)


def state_of(session: Session, host: str) -> ParticipantState:
    participant = transitions.find(session, host)
    assert participant
    return participant.state


def disk_of(session: Session, vm: str) -> Transfer:
    return next(each for each in session.disks if each.vm == vm)


def test_all_steps_in_order() -> None:
    session = planned_session()
    for number, name in enumerate(STEPS):
        apply(session, "hv1", name)
        assert state_of(session, "hv1") == name, number
    assert state_of(session, "hv2") is ParticipantState.JOINED
    assert disk_of(session, "db").state is TransferState.TRANSFERRED
    assert disk_of(session, "web").state is TransferState.PLANNED


def test_facts_are_kept() -> None:
    session = planned_session()
    walk(session, "hv1", "prepared", "stopped")
    assert disk_of(session, "db").consistency == "filesystem"
    walk(session, "hv1", "cut", "transferring")
    db = disk_of(session, "db")
    assert (db.pause_ms, db.consistency, db.dirty_bytes) == (21.5, "crash", 65536)
    assert (db.done_bytes, db.total_bytes, db.sent_bytes) == (5, 10, 6)
    walk(session, "hv1", "transferred")
    assert (db.done_bytes, db.sent_bytes) == (10, 11)


@pytest.mark.parametrize("name", STEPS)
def test_the_same_step_again_changes_nothing(name: str) -> None:
    session = planned_session()
    walk(session, "hv1", *STEPS[: STEPS.index(name) + 1])
    before = len(session.transitions)
    apply(session, "hv1", name)
    assert len(session.transitions) == before


def test_a_step_back_is_refused() -> None:
    session = planned_session()
    walk(session, "hv1", "prepared", "stopped", "cut")
    with pytest.raises(TransitionRefused, match="participant hv1 cannot go from cut to prepared"):
        apply(session, "hv1", "prepared")


def test_a_second_participant_of_the_same_host_is_refused() -> None:
    session = planned_session()
    walk(session, "hv1", "prepared")
    with pytest.raises(StepUnexpected, match="hv1 sent the step joined while it is prepared"):
        apply(session, "hv1", "joined")


def test_finishing_is_for_sessions_that_have_ended() -> None:
    session = planned_session()
    with pytest.raises(StepUnexpected):
        apply(session, "hv1", "finished")
    transitions.enter(session, SessionState.ABORTED, now=NOW, reason="because")
    apply(session, "hv1", "finished")
    assert state_of(session, "hv1") is ParticipantState.FINISHED
    assert session.transitions[-1].reason == "removed livebackup:old"


def test_a_failure_takes_the_host_s_disks_with_it() -> None:
    session = planned_session()
    apply(session, "hv1", "failed")
    assert state_of(session, "hv1") is ParticipantState.FAILED
    assert {disk.vm for disk in session.disks if disk.state is TransferState.FAILED} == set(VMS["hv1"])
    assert disk_of(session, "db").state is TransferState.FAILED
    assert session.transitions[-1].reason == "the scratch space is full"


def test_who_has_sent_everything_cannot_fail_any_more() -> None:
    session = planned_session()
    walk(session, "hv1", *STEPS, "failed")
    assert state_of(session, "hv1") is ParticipantState.TRANSFERRED
    assert disk_of(session, "db").state is TransferState.TRANSFERRED


@pytest.mark.parametrize("name", ["stopped", "cut", "transferred"])
def test_a_missing_vm_is_an_error_if_all_must_succeed(name: str) -> None:
    session = planned_session()
    walk(session, "hv1", *STEPS[: STEPS.index(name)])
    with pytest.raises(BodyInvalid, match="VM app of the plan"):
        apply(session, "hv1", name, "db")


@pytest.mark.parametrize("name", ["stopped", "cut", "transferred"])
def test_a_missing_vm_is_left_out_if_each_stands_alone(name: str) -> None:
    session = planned_session(Policy.EACH)
    walk(session, "hv1", *STEPS[: STEPS.index(name)])
    apply(session, "hv1", name, "db")
    assert disk_of(session, "app").state is TransferState.FAILED
    assert disk_of(session, "db").state is not TransferState.FAILED
    assert state_of(session, "hv1") == name


def test_a_disk_that_changed_its_size_fails_the_host() -> None:
    session = planned_session()
    walk(session, "hv1", "prepared", "stopped")
    disk = {"disk": "vd-a", "dirty_bytes": 0, "virtual_size": 2 * SIZE}
    vms = [{"vm": vm, "pause_ms": 1, "consistency": "crash", "disks": [disk]} for vm in VMS["hv1"]]
    apply(session, "hv1", "cut", vms=vms)
    assert state_of(session, "hv1") is ParticipantState.FAILED
    assert f"changed its size from {SIZE} to {2 * SIZE} bytes" in (session.participants[0].reason or "")


def test_progress_of_a_disk_that_is_not_planned_is_refused() -> None:
    session = planned_session()
    walk(session, "hv1", "prepared", "stopped", "cut")
    with pytest.raises(BodyInvalid, match="disk vd-a of VM web is not in the plan of hv1"):
        apply(session, "hv1", "transferring", "web")


ANY_STEP = st.sampled_from(("joined", *STEPS, "failed", "finished"))


@given(st.sampled_from(list(Policy)), st.lists(st.tuples(st.sampled_from(list(VMS)), ANY_STEP), max_size=30))
def test_whatever_comes_the_record_stays_on_the_tables(
    policy: Policy, reported: list[tuple[str, str]]
) -> None:
    session = planned_session(policy)
    for host, name in reported:
        with suppress(Conflict, Refused):
            apply(session, host, name)
    now = {"session": str(session.state)}
    now |= {each.host: str(each.state) for each in session.participants}
    now |= {transitions.subject(each): str(each.state) for each in session.disks}
    assert {subject: path[-1] for subject, path in paths(session).items()} == now
    for subject, path in paths(session).items():
        for before, after in pairwise(path):
            assert after in table_of(subject)[before]


def paths(session: Session) -> dict[str, list[str]]:
    """The states that each subject went through."""
    found: dict[str, list[str]] = {}
    for each in session.transitions:
        found.setdefault(each.subject, []).append(each.to)
    return found


def table_of(subject: str) -> dict[str, set[str]]:
    tables = {"session": states.SESSION} | dict.fromkeys(VMS, states.PARTICIPANT)
    table = tables.get(subject, states.TRANSFER)
    return {str(state): {str(each) for each in targets} for state, targets in table.items()}
