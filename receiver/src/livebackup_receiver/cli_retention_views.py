# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the command line shows what is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import humanize
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from livebackup_receiver.model import Point, rfc3339
from livebackup_receiver.retention.declared import DeclaredPolicy, ProposedPolicy
from livebackup_receiver.retention.outlook import ForecastStep, ForeseenPoint, RetentionForecast, by_month
from livebackup_receiver.retention.plan import PointVerdict, RetentionPlan, RetentionPreview


def plan_view(plan: RetentionPlan) -> Group:
    """The policies, the verdicts, and how many there are of each."""
    going = sum(not each.keep for each in plan.verdicts)
    policies = [Text(f"{each.scope}: {each.policy.describe()}") for each in plan.policies]
    table = _table("Point", "Cut (UTC)", "VMs", "Verdict", "Rules")
    for verdict in plan.verdicts:
        table.add_row(*_verdict_cells(verdict))
    summary = f"{len(plan.verdicts) - going} kept, {going} to drop"
    return Group(*(policies or [Text("no policy")]), Text(), table, Text(), Text(summary))


def applied_text(applied: Mapping[str, Any], dry_run: bool) -> str:
    """What is dropped, a point in each line, and how many stay."""
    verb = "would be dropped" if dry_run else "dropped"
    lines = [f"{point} {verb}" for point in applied["dropped"]]
    return "\n".join([*lines, f"{len(lines)} {verb}, {applied['kept']} kept"])


def policies_table(policies: Sequence[DeclaredPolicy]) -> Table:
    """One line per policy."""
    table = _table("Scope", "Keeps", "Changed (UTC)")
    for each in policies:
        table.add_row(each.scope, each.policy.describe(), _moment(each.changed_at))
    return table


def proposed_view(proposed: ProposedPolicy, preview: RetentionPreview, dry_run: bool) -> Group:
    """What is declared, and what it drops."""
    words = proposed.policy.describe() if proposed.policy else "no policy"
    lines: list[RenderableType] = [Text(f"{proposed.scope}: {words}")]
    if preview.after:
        verb = "would be dropped" if dry_run else "will be dropped when retention is applied next"
        table = _table("Point", "Cut (UTC)", "Group", "VMs")
        for each in preview.after:
            table.add_row(each.point, _moment(each.cut_at), each.group, ", ".join(each.vms))
        lines += [Text(f"{len(preview.after)} {verb}:"), table]
    else:
        lines.append(Text("no point is dropped by that now"))
    return Group(*lines)


def forecast_view(
    forecast: RetentionForecast, on: datetime | None, there: Sequence[ForeseenPoint] | None
) -> Group:
    """How much there is month by month, at most, and what there is at a date."""
    policies = [f"{each.scope}: {each.words}" for each in forecast.policies] or ["no policy"]
    table = _table("Date (UTC)", "Points", "Size (estimated)")
    for step in by_month(forecast.steps):
        table.add_row(*_step_cells(step))
    peak = " ".join(("At most", _size(forecast.peak.estimated_bytes), "at", _moment(forecast.peak.at)))
    notes = [
        f"Disk {each.disk} of VM {each.vm} has no increment yet, and is taken not to change."
        for each in forecast.unknown_disks
    ]
    parts: list[RenderableType] = [Text(line) for line in (*policies, f"Backups {forecast.schedule}", "")]
    parts += [table, Text(), *(Text(line) for line in (peak, *notes))]
    if on is not None and there is not None:
        parts += [Text(), Text(f"On {_moment(on)} there are {len(there)} points:"), _points_table(there)]
    return Group(*parts)


def held_text(point: Point) -> str:
    """A point, and what holds it."""
    holds = []
    if point.pin_reason is not None:
        until = f" until {rfc3339(point.pin_until)}" if point.pin_until else ""
        holds.append(f"pinned{until}: {point.pin_reason}")
    if point.locked_until is not None:
        holds.append(f"locked until {rfc3339(point.locked_until)}")
    return f"point {point.id}: {'; '.join(holds) or 'neither pinned nor locked'}"


def _verdict_cells(verdict: PointVerdict) -> tuple[RenderableType, ...]:
    vms = ", ".join(verdict.vms)
    return (
        verdict.point,
        _moment(verdict.cut_at),
        Text(vms if verdict.complete else f"{vms} (incomplete)"),
        "keep" if verdict.keep else "[red]drop",
        Text(", ".join(verdict.rules) or "no rule keeps it"),
    )


def _step_cells(step: ForecastStep) -> tuple[str, ...]:
    return _moment(step.at), str(step.count), _size(step.estimated_bytes)


def _points_table(points: Sequence[ForeseenPoint]) -> Table:
    table = _table("Cut (UTC)", "Point")
    for each in points:
        table.add_row(_moment(each.cut_at), each.id or "planned")
    return table


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _size(count: int) -> str:
    return humanize.naturalsize(count, binary=True)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column == "Point", overflow="fold")
    return table
