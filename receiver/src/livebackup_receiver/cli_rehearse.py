# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands about rehearsals; they work beside a running receiver and without one."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup
from ulid import ULID

from livebackup_receiver import cli_rehearse_views, cli_views, config
from livebackup_receiver.catalog import groups, rehearsals
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.presence import open_present
from livebackup_receiver.chain.keyring import using
from livebackup_receiver.cli_options import AsJson, ConfigFile
from livebackup_receiver.cli_recovery_plan import plan_app
from livebackup_receiver.config import Config
from livebackup_receiver.encryption import read_keys
from livebackup_receiver.model import Outcome
from livebackup_receiver.rehearsal.conduct import newest_complete, order_of, rehearse
from livebackup_receiver.rehearsal.kept import find_result
from livebackup_receiver.rehearsal.result import Rehearsal
from livebackup_receiver.rehearsal.run import OnLine, Order
from livebackup_receiver.store.format import check_format
from livebackup_receiver.store.paths import Store

EXIT_CODES = {Outcome.PASSED: 0, Outcome.FAILED: 1, Outcome.COULD_NOT_RUN: 12}


class RehearseGroup(TyperGroup):
    """``rehearse POINT`` is ``rehearse run POINT``; no point has the name of a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


rehearse_app = typer.Typer(
    cls=RehearseGroup,
    no_args_is_help=True,
    help="Boot restore points, cut off from everything, to see that they can be restored: "
    "`rehearse POINT`, or `rehearse --group NAME`.",
)
rehearse_app.add_typer(plan_app, name="plan")


@rehearse_app.command("run")
def run(
    point: Annotated[str | None, typer.Argument(help="Id of the point; `points` lists them.")] = None,
    group: Annotated[str | None, typer.Option(help="The newest complete point of this group.")] = None,
    vm: Annotated[
        list[str] | None, typer.Option(help="Only this VM, and what it comes after; may be repeated.")
    ] = None,
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Boot the VMs of a point as the recovery plan of their group says, look at them, and destroy them.

    Exit code 0: passed, 1: failed, 12: could not run.
    """
    if (point is None) == (group is None):
        raise typer.BadParameter("name either a point, or a group with --group")
    options = config.load(config_file)
    check_format(Store(options.store))
    with using(read_keys(options)), open_present(options) as catalog:
        order = order_of(catalog, str(ULID()), point or newest_complete(catalog, group or ""), vm or ())
        result = asyncio.run(_stoppable(order, options, catalog, _teller(as_json)))
    cli_views.show(cli_rehearse_views.rehearsal_view(result), result.model_dump(mode="json"), as_json)
    raise typer.Exit(EXIT_CODES[result.outcome])


@rehearse_app.command("list")
def list_rehearsals(
    group: Annotated[str, typer.Argument(help="Name of the group.")],
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """List the rehearsals of a group that are kept, newest first."""
    with open_present(config.load(config_file)) as catalog, catalog.read() as db:
        groups.require_group(db, group)
        found = rehearsals.list_rehearsals(db, group)
    facts = {"rehearsals": cli_views.plain(found)}
    cli_views.show(cli_rehearse_views.rehearsals_table(found), facts, as_json)


@rehearse_app.command("show")
def show(
    rehearsal: Annotated[str, typer.Argument(help="Id of the rehearsal; `rehearse list` lists them.")],
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what a rehearsal has shown of each VM."""
    result = find_result(Store(config.load(config_file).store), rehearsal)
    cli_views.show(cli_rehearse_views.rehearsal_view(result), result.model_dump(mode="json"), as_json)


async def _stoppable(order: Order, options: Config, catalog: Catalog, on_line: OnLine) -> Rehearsal:
    """Rehearse; told to stop, it keeps that it could not run."""
    work = asyncio.create_task(rehearse(order, options, catalog, on_line))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, work.cancel)
    return await work


def _teller(as_json: bool) -> OnLine:
    """Tells a person how far it is, if one looks."""
    screen: Any = Console(stderr=True)
    if as_json or not screen.is_terminal:
        return lambda dummy: None
    return lambda line: screen.print(line, markup=False, highlight=False)
