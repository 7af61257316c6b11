# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures derived from sessions and points."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sample_records import NOW, new_id, point, point_vm, session, transfer

from livebackup_receiver.model import SessionState
from livebackup_receiver.web import summaries


def as_json(model: Any) -> Any:
    return model.model_dump(mode="json")


def progress_of(state: SessionState, **facts: Any) -> dict[str, str]:
    return {step.name: step.progress for step in summaries.steps(as_json(session(state, **facts)))}


def test_a_running_session_shows_what_is_done_and_what_is_ahead() -> None:
    progress = progress_of(SessionState.CUTTING)
    assert (progress["stopping"], progress["cutting"], progress["sealing"]) == ("done", "now", "ahead")


def test_a_committed_session_has_done_everything() -> None:
    assert set(progress_of(SessionState.COMMITTED).values()) == {"done"}


def test_an_aborted_session_shows_where_it_ended() -> None:
    progress = progress_of(SessionState.ABORTED, reason="hv1 was silent")
    assert (progress["cutting"], progress["transferring"], progress["sealing"]) == ("done", "failed", "ahead")


def test_a_session_aborted_without_a_history_failed_at_its_beginning() -> None:
    assert progress_of(SessionState.ABORTED, transitions=[])["joining"] == "failed"


def test_hosts_that_are_still_awaited_are_named() -> None:
    assert summaries.absent_hosts(as_json(session(hosts=["hv1", "hv2"]))) == ["hv2"]


@pytest.mark.parametrize(
    ("done", "total", "state", "percent"),
    [
        (0, 1000, "transferring", 0),
        (999, 1000, "transferring", 99),
        (2000, 1000, "transferring", 100),
        (0, 0, "transferring", 0),
        (0, 0, "transferred", 100),
    ],
)
def test_percent_of_a_disk(done: int, total: int, state: str, percent: int) -> None:
    disk = as_json(transfer(done_bytes=done, total_bytes=total, state=state))
    assert summaries.percent(disk) == percent


def test_what_holds_a_point_is_told() -> None:
    later = NOW + timedelta(days=30)
    held = point(pin_reason="before the upgrade", pin_until=later, locked_until=later)
    assert summaries.holds(as_json(held), NOW) == [
        ("pinned", "Pinned: before the upgrade, until 2026-03-31 03:00:00"),
        ("locked", "Locked until 2026-03-31 03:00:00"),
    ]
    assert summaries.holds(as_json(held), later) == []
    assert summaries.holds(as_json(point(pin_reason="for ever")), later) == [("pinned", "Pinned: for ever")]
    assert summaries.holds(as_json(point()), NOW) == []


def test_sums_of_a_point() -> None:
    ident = new_id()
    vms = [point_vm("db", ident, pause_ms=20.0), point_vm("web", ident, pause_ms=None)]
    made = as_json(point(id=ident, vms=vms))
    assert len(summaries.disks(made)) == 2
    assert summaries.stored(made) == 2 << 20
    assert summaries.longest_pause(made) == 20.0
