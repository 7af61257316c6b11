# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first line of the page: is everything protected, and if not, what is wrong.

Pure: from the checks and the groups to one headline and a list of problems, worst first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from livebackup_receiver.web.wording import anchor

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: ``state`` is ``warning`` or ``failed``, ``href`` where it is explained."""

    state: str
    subject: str
    message: str
    href: str


@dataclass(frozen=True)
class Verdict:
    """``state`` is ``ok``, ``warning``, ``failed`` or ``waiting`` (a group has nothing to restore yet)."""

    state: str
    headline: str
    problems: Sequence[Problem]


def judge(groups: Sequence[Record], checks: Sequence[Record]) -> Verdict:
    """The verdict over all groups (API form) and checks (API form)."""
    problems = sorted(_problems(groups, checks), key=lambda problem: problem.state)
    if problems:
        return Verdict(problems[0].state, _count(problems), problems)
    if not groups:
        return Verdict("waiting", "Ready, and waiting for the first backup", ())
    if bare := [group["name"] for group in groups if group["last_point"] is None]:
        return Verdict("waiting", f"Waiting for the first restore point of {', '.join(bare)}", ())
    return Verdict("ok", _protected(groups), ())


def _problems(groups: Sequence[Record], checks: Sequence[Record]) -> list[Problem]:
    wrong = [check for check in checks if check["state"] != "ok"]
    lost = [group for group in groups if (group["last_session"] or {}).get("state") == "aborted"]
    return [
        *(
            Problem(check["state"], check["name"], check["message"], f"#check-{anchor(check['name'])}")
            for check in wrong
        ),
        *(_aborted(group) for group in lost),
    ]


def _aborted(group: Record) -> Problem:
    session = group["last_session"]
    return Problem(
        "failed",
        f"group {group['name']}",
        f"its last session was aborted: {session['reason']}",
        f"/sessions/{session['id']}",
    )


def _count(problems: Sequence[Problem]) -> str:
    return "1 problem needs attention" if len(problems) == 1 else f"{len(problems)} problems need attention"


def _protected(groups: Sequence[Record]) -> str:
    return "The group is protected" if len(groups) == 1 else f"All {len(groups)} groups are protected"
