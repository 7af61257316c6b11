# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the check says of a group's rehearsals."""

from __future__ import annotations

from datetime import timedelta

import pytest
from rehearsal_guests import member, plan
from sample_records import NOW, new_id

from livebackup_receiver import subprocesses
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.checks.rehearsals import Rehearsed, check_rehearsals, judge_rehearsal
from livebackup_receiver.checks.result import CheckState, Inspection
from livebackup_receiver.config import Config
from livebackup_receiver.model import Outcome, PointRehearsal

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def ended(outcome: Outcome, reason: str | None = None) -> PointRehearsal:
    began, end = NOW - 4 * HOUR, NOW - 3 * HOUR
    return PointRehearsal(
        id=new_id(), whole=True, outcome=outcome, reason=reason, started_at=began, ended_at=end
    )


async def test_whether_a_group_can_be_rehearsed_at_all_is_said_before_it_is(
    config: Config, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inspection() -> Inspection:
        return Inspection(config, catalog, list, NOW)

    (none,) = await check_rehearsals(inspection())
    assert none.message.startswith("no group is rehearsed")
    plan(catalog, config, member("db", boot={"memory_mib": 1 << 22}), schedule="every 1w")
    able, group = await check_rehearsals(inspection())
    assert (able.state, able.message) == (CheckState.OK, "rehearsed by schedule, and can be: nightly")
    assert (group.name, group.state) == ("rehearsal of nightly", CheckState.OK)
    monkeypatch.setitem(subprocesses.ENVIRONMENT, "PATH", "/nowhere")
    unable, dummy = await check_rehearsals(inspection())
    words = "group nightly cannot be rehearsed here: qemu-system-x86_64 is not installed"
    assert (unable.state, unable.message.startswith(words)) == (CheckState.WARNING, True)


@pytest.mark.parametrize(
    ("newest", "due", "state", "words"),
    [
        (ended(Outcome.PASSED), NOW + DAY, CheckState.OK, "group nightly passed 3 hours ago"),
        (ended(Outcome.PASSED), None, CheckState.OK, "group nightly passed 3 hours ago"),
        (ended(Outcome.PASSED), NOW - DAY, CheckState.WARNING, "was to be rehearsed since"),
        (ended(Outcome.PASSED), NOW - HOUR, CheckState.OK, "group nightly passed 3 hours ago"),
        (
            ended(Outcome.FAILED, "db: it did not boot"),
            NOW + DAY,
            CheckState.FAILED,
            "the rehearsal of group nightly failed 3 hours ago (db: it did not boot); look at",
        ),
        (
            ended(Outcome.COULD_NOT_RUN, "bwrap is not installed"),
            None,
            CheckState.WARNING,
            "could not run 3 hours ago: bwrap is not installed",
        ),
        (None, NOW + DAY, CheckState.OK, "group nightly was not rehearsed yet"),
        (None, NOW - DAY, CheckState.WARNING, "group nightly was never rehearsed, and was to be"),
    ],
)
def test_a_group_is_judged_by_its_newest_rehearsal(
    newest: PointRehearsal | None, due: object, state: CheckState, words: str
) -> None:
    check = judge_rehearsal(Rehearsed("nightly", newest, due), NOW)  # type: ignore[arg-type]
    assert (check.name, check.state, words in check.message) == ("rehearsal of nightly", state, True)
