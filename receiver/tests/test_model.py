# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError
from sample_records import session

from livebackup_receiver.model import Participant, ParticipantState, Session, Transition, rfc3339


def test_times_are_utc_with_milliseconds() -> None:
    moment = datetime(2026, 3, 1, 4, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    assert rfc3339(moment) == "2026-03-01T02:00:00.123Z"


def test_a_time_without_a_zone_is_utc() -> None:
    participant = Participant(host="hv1", state=ParticipantState.JOINED, heard_at=datetime(2026, 3, 1))
    assert participant.heard_at == datetime(2026, 3, 1, tzinfo=UTC)


def test_a_transition_says_from_in_json() -> None:
    transition = Transition(at=datetime(2026, 3, 1, tzinfo=UTC), subject="session", from_=None, to="joining")
    assert '"from":null,"to":"joining"' in transition.model_dump_json()


def test_a_session_survives_json() -> None:
    record = session()
    assert Session.model_validate_json(record.model_dump_json()) == record


def test_an_unknown_field_is_an_error() -> None:
    with pytest.raises(ValidationError, match="colour"):
        Session.model_validate(session().model_dump() | {"colour": "red"})
