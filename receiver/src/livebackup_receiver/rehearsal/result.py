# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rehearsal has shown; pure.

One that could not run says nothing about the point: something of the receiver was missing or in the way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pydantic import Field

from livebackup_receiver.model import Model, Moment, Outcome

ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[^\[])")
TAIL_LINES = 20
LINE_CHARACTERS = 200


class CheckResult(Model):
    """One check of a VM; ``seconds`` until it was as it should be, or was given up."""

    name: str
    passed: bool
    seconds: float
    problem: str | None = None


class MemberResult(Model):
    """One VM; ``console_tail`` are the last lines of its console, without what is not to be printed."""

    vm: str
    outcome: Outcome
    reason: str | None = None
    ready_s: float | None = None
    checks: list[CheckResult] = Field(default=[])
    console_tail: list[str] = Field(default=[])
    console: bool = False
    screenshot: bool = False


class Rehearsal(Model):
    """What was rehearsed when, and what came of it; ``whole``: with all VMs of the point and of the plan."""

    id: str
    group: str
    point: str
    vms: list[str]
    whole: bool
    outcome: Outcome
    reason: str | None = None
    accelerator: str | None = None
    started_at: Moment
    ended_at: Moment | None = None
    members: list[MemberResult] = Field(default=[])


def judge(members: Sequence[MemberResult]) -> tuple[Outcome, str | None]:
    """The outcome of all, and why: the first VM that failed, else the first that could not run."""
    for outcome in (Outcome.FAILED, Outcome.COULD_NOT_RUN):
        for each in members:
            if each.outcome is outcome:
                return outcome, f"{each.vm}: {each.reason}"
    return Outcome.PASSED, None


def tail_of(console: bytes) -> list[str]:
    """The last lines of a console for people; a guest cannot steer their terminal with them."""
    text = ESCAPES.sub("", console[-TAIL_LINES * LINE_CHARACTERS * 4 :].decode(errors="replace"))
    lines = [_printable(line) for line in re.split(r"[\r\n]+", text)]
    return [line[:LINE_CHARACTERS] for line in lines if line][-TAIL_LINES:]


def printable(text: str) -> str:
    """What a guest said, as a part of one sentence."""
    return _printable(ESCAPES.sub("", text))[:LINE_CHARACTERS]


def _printable(characters: Iterable[str]) -> str:
    return "".join(each for each in characters if each.isprintable()).strip()
