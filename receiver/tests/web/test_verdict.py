# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first line of the page."""

from __future__ import annotations

from typing import Any

from sample_records import group, new_id

from livebackup_receiver.checks.result import Check, CheckState
from livebackup_receiver.model import Group, SessionState
from livebackup_receiver.web.verdict import judge


def groups(*found: Group) -> list[dict[str, Any]]:
    return [each.model_dump(mode="json") for each in found]


def check(name: str, state: CheckState) -> dict[str, Any]:
    return Check(name=name, state=state, message=f"{name} is {state}").model_dump(mode="json")


def ended(state: SessionState, reason: str | None = None) -> Group.LastSession:
    return Group.LastSession(id=new_id(), state=state, reason=reason)


def test_a_new_receiver_waits_and_does_not_claim_protection() -> None:
    verdict = judge([], [check("store", CheckState.OK)])
    assert (verdict.state, verdict.headline) == ("waiting", "Ready, and waiting for the first backup")


def test_groups_with_points_and_good_checks_are_protected() -> None:
    committed = ended(SessionState.COMMITTED)
    found = groups(group("a", last_session=committed), group("b", last_session=committed))
    assert judge(found, []).headline == "All 2 groups are protected"


def test_a_group_without_a_restore_point_is_not_called_protected() -> None:
    first = {**groups(group("a"))[0], "last_point": None}
    verdict = judge([first, *groups(group("b"))], [])
    assert (verdict.state, verdict.headline) == ("waiting", "Waiting for the first restore point of a")


def test_failures_come_before_warnings_and_decide_the_state() -> None:
    checks = [check("certificate", CheckState.WARNING), check("layers", CheckState.FAILED)]
    verdict = judge(groups(group()), checks)
    assert verdict.state == "failed"
    assert verdict.headline == "2 problems need attention"
    assert [problem.subject for problem in verdict.problems] == ["layers", "certificate"]


def test_an_aborted_last_session_is_a_problem_with_its_reason_and_a_link() -> None:
    last = ended(SessionState.ABORTED, "hv1 was silent")
    (problem,) = judge(groups(group(last_session=last)), []).problems
    assert "hv1 was silent" in problem.message
    assert problem.href == f"/sessions/{last.id}"


def test_a_session_that_runs_after_a_failure_is_no_problem_yet() -> None:
    assert judge(groups(group(last_session=ended(SessionState.JOINING))), []).state == "ok"
