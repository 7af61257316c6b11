# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an open page is told."""

from __future__ import annotations

import pytest
from sample_records import session

from livebackup_receiver.events import SessionChanged
from livebackup_receiver.model import SessionState
from livebackup_receiver.web.signals import PROGRESS, SETTLED, signal_of


@pytest.mark.parametrize(
    ("state", "entered", "signal"),
    [
        (SessionState.JOINING, True, SETTLED),
        (SessionState.PREPARING, True, PROGRESS),
        (SessionState.STOPPING, True, None),
        (SessionState.CUTTING, True, None),
        (SessionState.TRANSFERRING, True, PROGRESS),
        (SessionState.TRANSFERRING, False, PROGRESS),
        (SessionState.COMMITTED, True, SETTLED),
        (SessionState.ABORTED, True, SETTLED),
    ],
)
def test_pages_load_little_while_a_session_runs_and_nothing_during_its_cut(
    state: SessionState, entered: bool, signal: str | None
) -> None:
    assert signal_of(SessionChanged.of(session(state), entered=entered)) == signal
