# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rehearsals as people see them on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from livebackup_receiver.model import Outcome, PointRehearsal
from livebackup_receiver.rehearsal.result import MemberResult, Rehearsal

COLORS = {
    Outcome.PASSED: "green",
    Outcome.FAILED: "red",
    Outcome.COULD_NOT_RUN: "yellow",
    Outcome.NOT_STARTED: "yellow",
    Outcome.RUNNING: "blue",
}


def rehearsal_view(result: Rehearsal) -> RenderableType:
    """The outcome, a line for each VM, and of those that failed the end of the console."""
    head = Text(f"rehearsal {result.id} of point {result.point} of group {result.group}: ")
    head.append(result.outcome.words, COLORS[result.outcome])
    if result.reason:
        head.append(f", {result.reason}")
    table = Table(box=None, pad_edge=False)
    for column in ("VM", "Outcome", "Ready after", "Checks", "Found"):
        table.add_column(column, overflow="fold")
    for each in result.members:
        table.add_row(*_cells(each))
    return Group(head, *([table] if result.members else []), *_consoles(result.members))


def _cells(member: MemberResult) -> Iterator[Text]:
    yield Text(member.vm)
    yield Text(member.outcome.words, COLORS[member.outcome])
    yield Text(f"{member.ready_s:.1f} s" if member.ready_s is not None else "")
    yield Text(f"{sum(each.passed for each in member.checks)} of {len(member.checks)}")
    yield Text(member.reason or "")


def _consoles(members: Sequence[MemberResult]) -> Iterator[Text]:
    for each in members:
        if each.outcome is not Outcome.PASSED and each.console_tail:
            yield Text("\n".join(["", f"the end of the console of {each.vm}:", *each.console_tail]))


def rehearsals_table(found: Sequence[PointRehearsal]) -> RenderableType:
    """One line for each."""
    if not found:
        return "there was no rehearsal"
    table = Table(box=None, pad_edge=False)
    for column in ("Rehearsal", "Ended (UTC)", "Outcome", "Found"):
        table.add_column(column, overflow="fold")
    for each in found:
        words = Text(each.outcome.words, COLORS[each.outcome])
        table.add_row(each.id, f"{each.ended_at:%Y-%m-%d %H:%M:%S}", words, Text(each.reason or ""))
    return table
