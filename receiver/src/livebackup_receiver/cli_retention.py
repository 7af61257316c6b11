# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands about what is kept: policies, verdicts, forecasts, pins, locks and drops.

They ask the running receiver. If none runs they do it themselves, and none can start meanwhile.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from livebackup_receiver import cli_retention_views, cli_views, config
from livebackup_receiver.cli_options import AsJson, ConfigFile
from livebackup_receiver.errors import RetentionInvalid
from livebackup_receiver.model import Point
from livebackup_receiver.retention.access import open_retention
from livebackup_receiver.retention.act import invalid
from livebackup_receiver.retention.declared import ProposedPolicy
from livebackup_receiver.retention.local import parse_scope
from livebackup_receiver.retention.outlook import ForecastAsked, ForeseenPoint, RetentionForecast
from livebackup_receiver.retention.policy import RetentionPolicy

retention_app = typer.Typer(no_args_is_help=True, help="Decide what is kept, and see what that comes to.")


def _moment(text: str) -> datetime:
    """A date, or a date and time; in UTC unless it says otherwise."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise RetentionInvalid(f"{text!r} is not a date", "write 2027-01-01 or 2027-01-01T18:00Z") from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _date(help: str) -> Any:
    """An option whose value is a date."""
    return typer.Option(parser=_moment, metavar="DATE", help=help)


GroupName = Annotated[str, typer.Argument(help="Name of the group.")]
PointId = Annotated[str, typer.Argument(help="Id of the point; `points` lists them.")]
ScopeText = Annotated[str, typer.Argument(help="group:<group>, vm:<vm> or disk:<vm>/<disk>.")]
KeepLast = Annotated[int | None, typer.Option(min=0, help="Keep so many of the newest points.")]
KeepWithin = Annotated[str | None, typer.Option(help="Keep what is younger, such as 36h, 14d, 8w, 6m or 2y.")]
Hourly = Annotated[int | None, typer.Option(min=0, help="Keep the newest point of so many hours.")]
Daily = Annotated[int | None, typer.Option(min=0, help="Keep the newest point of so many days.")]
Weekly = Annotated[int | None, typer.Option(min=0, help="Keep the newest point of so many ISO weeks.")]
Monthly = Annotated[int | None, typer.Option(min=0, help="Keep the newest point of so many months.")]
Yearly = Annotated[int | None, typer.Option(min=0, help="Keep the newest point of so many years.")]
Minimum = Annotated[int | None, typer.Option(min=1, help="Never keep fewer complete points; 1 if not given.")]
TimeZone = Annotated[
    str | None, typer.Option(help="Whose days and weeks they are, such as Europe/Berlin; UTC if not given.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be dropped.")]
UNTIL = _date("Until when.")


@retention_app.command("plan")
def show_plan(group: GroupName, config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show for each point of a group whether it is kept, and by which rules."""
    with open_retention(config.load(config_file)) as retention:
        plan = retention.plan(group)
    cli_views.show(cli_retention_views.plan_view(plan), plan.model_dump(mode="json"), as_json)


@retention_app.command("apply")
def apply(
    group: GroupName, dry_run: DryRun = False, config_file: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Drop the points of a group that no rule keeps. Nothing is asked."""
    with open_retention(config.load(config_file)) as retention:
        if dry_run:
            verdicts = retention.plan(group).verdicts
            dropped = [each.point for each in verdicts if not each.keep]
            facts = {"group": group, "dropped": dropped, "kept": len(verdicts) - len(dropped)}
        else:
            facts = retention.apply(group).model_dump()
    cli_views.show(cli_retention_views.applied_text(facts, dry_run), facts, as_json)


@retention_app.command("simulate")
def simulate(
    ctx: typer.Context,
    group: GroupName,
    schedule: Annotated[
        str | None,
        typer.Option(
            help='Such as "every 1h" or "daily at 02:00,14:00"; if not given, as often as it was lately.'
        ),
    ] = None,
    until: Annotated[datetime | None, _date("The end; a year from now, if not given.")] = None,
    on: Annotated[datetime | None, _date("List the points that there will be then.")] = None,
    keep_last: KeepLast = None,
    keep_within: KeepWithin = None,
    hourly: Hourly = None,
    daily: Daily = None,
    weekly: Weekly = None,
    monthly: Monthly = None,
    yearly: Yearly = None,
    minimum: Minimum = None,
    time_zone: TimeZone = None,
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what there will be, and what it will take, month by month.

    With rules, these are tried in place of the group's own policy. Bytes are estimated from its history.
    """
    tried = _given_rules(ctx)
    proposed = [ProposedPolicy(scope=f"group:{group}", policy=_policy(tried))] if tried else []
    asked = ForecastAsked(schedule=schedule, until=until or on, policies=proposed)
    with open_retention(config.load(config_file)) as retention:
        forecast = retention.foresee(group, asked)
    there = _points_on(forecast, on)
    facts = forecast.model_dump(mode="json")
    if there is not None:
        facts["on"] = [each.model_dump(mode="json") for each in there]
    cli_views.show(cli_retention_views.forecast_view(forecast, on, there), facts, as_json)


@retention_app.command("policies")
def list_policies(config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """List the policies."""
    with open_retention(config.load(config_file)) as retention:
        found = retention.policies()
    table = cli_retention_views.policies_table(found)
    cli_views.show(table, {"policies": cli_views.plain(found)}, as_json)


@retention_app.command("set")
def declare(
    ctx: typer.Context,
    scope: ScopeText,
    keep_last: KeepLast = None,
    keep_within: KeepWithin = None,
    hourly: Hourly = None,
    daily: Daily = None,
    weekly: Weekly = None,
    monthly: Monthly = None,
    yearly: Yearly = None,
    minimum: Minimum = None,
    time_zone: TimeZone = None,
    dry_run: DryRun = False,
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Declare what is kept of a group, a VM or a disk, in place of what was declared for it.

    Nothing is dropped at once: the receiver does that after the next backup of the group, or within an hour.
    """
    proposed = ProposedPolicy(scope=str(parse_scope(scope)), policy=_policy(_given_rules(ctx)))
    _propose(proposed, config_file, dry_run=dry_run, as_json=as_json)


@retention_app.command("unset")
def withdraw(
    scope: ScopeText, dry_run: DryRun = False, config_file: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Withdraw a policy; points that no policy is for are kept."""
    proposed = ProposedPolicy(scope=str(parse_scope(scope)), policy=None)
    _propose(proposed, config_file, dry_run=dry_run, as_json=as_json)


@retention_app.command("drop")
def drop(point: PointId, config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Drop a point on all its disks, whatever the rules say. What is pinned, locked or the minimum stays."""
    with open_retention(config.load(config_file)) as retention:
        retention.drop(point)
    cli_views.show(f"point {point} is dropped", {"dropped": [point]}, as_json)


@retention_app.command("pin")
def pin(
    point: PointId,
    reason: Annotated[str, typer.Option(help="Why it is kept; it is shown wherever the point is.")],
    until: Annotated[datetime | None, UNTIL] = None,
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Keep a point whatever the policies say, until a date or until it is unpinned."""
    with open_retention(config.load(config_file)) as retention:
        found = retention.pin(point, reason, until)
    _show_held(found, as_json)


@retention_app.command("unpin")
def unpin(point: PointId, config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Leave a point to the policies again."""
    with open_retention(config.load(config_file)) as retention:
        found = retention.unpin(point)
    _show_held(found, as_json)


@retention_app.command("lock")
def lock(
    point: PointId,
    until: Annotated[datetime, UNTIL],
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Let nobody drop a point before a date. This cannot be taken back, only put off."""
    with open_retention(config.load(config_file)) as retention:
        found = retention.lock(point, until)
    _show_held(found, as_json)


def _show_held(point: Point, as_json: bool) -> None:
    cli_views.show(cli_retention_views.held_text(point), point.model_dump(mode="json"), as_json)


def _propose(proposed: ProposedPolicy, config_file: Path | None, *, dry_run: bool, as_json: bool) -> None:
    with open_retention(config.load(config_file)) as retention:
        preview = retention.preview([proposed])
        if dry_run:
            pass
        elif proposed.policy is None:
            retention.withdraw(proposed.scope)
        else:
            retention.declare(proposed.scope, proposed.policy)
    facts = {**proposed.model_dump(mode="json"), "drops": cli_views.plain(preview.after)}
    cli_views.show(cli_retention_views.proposed_view(proposed, preview, dry_run), facts, as_json)


def _given_rules(ctx: typer.Context) -> dict[str, Any]:
    """Those options of a command that are fields of a policy."""
    given = {name: ctx.params.get(name) for name in RetentionPolicy.model_fields}
    return {name: value for name, value in given.items() if value is not None}


def _policy(rules: dict[str, Any]) -> RetentionPolicy:
    try:
        return RetentionPolicy(**rules)
    except ValidationError as error:
        raise invalid(ValueError(error.errors()[0]["msg"].removeprefix("Value error, "))) from None


def _points_on(forecast: RetentionForecast, moment: datetime | None) -> list[ForeseenPoint] | None:
    try:
        return forecast.on(moment) if moment else None
    except ValueError as error:
        raise invalid(error) from None
