# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebackup_receiver.coordinator import states
from livebackup_receiver.coordinator.orders import Order
from livebackup_receiver.errors import TransitionRefused
from livebackup_receiver.model import ParticipantState, SessionState, TransferState

TABLES = [states.SESSION, states.PARTICIPANT, states.TRANSFER]


@pytest.mark.parametrize("table", TABLES, ids=["session", "participant", "transfer"])
def test_every_state_is_in_its_table_and_some_end(table: Mapping[Any, frozenset[Any]]) -> None:
    kind: type[StrEnum] = type(next(iter(table)))
    assert set(table) == set(kind)
    assert [state for state, targets in table.items() if not targets]


@pytest.mark.parametrize("table", TABLES, ids=["session", "participant", "transfer"])
def test_nothing_leads_back(table: Mapping[Any, frozenset[Any]]) -> None:
    order = list(table)
    for state, targets in table.items():
        for target in targets - {ParticipantState.FINISHED}:
            assert order.index(target) > order.index(state)


@given(st.sampled_from(list(SessionState)), st.sampled_from(list(SessionState)))
def test_advance_goes_only_where_the_table_leads(current: SessionState, target: SessionState) -> None:
    if target in states.SESSION[current]:
        assert states.advance(states.SESSION, "session 1", current, target) is target
    else:
        with pytest.raises(TransitionRefused, match=f"session 1 cannot go from {current} to {target}"):
            states.advance(states.SESSION, "session 1", current, target)


def test_no_way_out_of_an_ended_session() -> None:
    assert all(not states.SESSION[state] for state in SessionState if state.ended)


@pytest.mark.parametrize("state", [state for state in SessionState if not state.ended])
def test_every_running_session_can_be_aborted(state: SessionState) -> None:
    assert SessionState.ABORTED in states.SESSION[state]


@pytest.mark.parametrize("state", [state for state in TransferState if state is not TransferState.FAILED])
def test_every_transfer_can_fail(state: TransferState) -> None:
    assert TransferState.FAILED in states.TRANSFER[state]


BARRIERS: list[tuple[StrEnum, StrEnum, StrEnum, Order]] = [
    (ParticipantState.JOINED, SessionState.JOINING, SessionState.PREPARING, Order.PREPARE),
    (ParticipantState.PREPARED, SessionState.PREPARING, SessionState.STOPPING, Order.STOP),
    (ParticipantState.STOPPED, SessionState.STOPPING, SessionState.CUTTING, Order.CUT),
    (ParticipantState.TRANSFERRED, SessionState.SEALING, SessionState.COMMITTED, Order.FINISH),
]


@pytest.mark.parametrize(("participant", "before", "after", "order"), BARRIERS)
def test_a_participant_waits_at_a_barrier_until_the_session_is_there(
    participant: ParticipantState, before: SessionState, after: SessionState, order: Order
) -> None:
    assert states.order_for(participant, before) is Order.WAIT
    assert states.order_for(participant, after) is order


def test_who_has_cut_transfers_while_others_still_cut() -> None:
    assert states.order_for(ParticipantState.CUT, SessionState.CUTTING) is Order.TRANSFER
    assert states.order_for(ParticipantState.TRANSFERRING, SessionState.CUTTING) is Order.TRANSFER


@pytest.mark.parametrize(
    "participant", [each for each in ParticipantState if each is not ParticipantState.FINISHED]
)
def test_everyone_in_an_aborted_session_aborts(participant: ParticipantState) -> None:
    assert states.order_for(participant, SessionState.ABORTED) is Order.ABORT


@given(st.sampled_from(list(ParticipantState)), st.sampled_from(list(SessionState)))
def test_only_a_committed_session_lets_anyone_finish(
    participant: ParticipantState, session: SessionState
) -> None:
    if states.order_for(participant, session) is Order.FINISH:
        assert session is SessionState.COMMITTED
