# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: one function per command.

Commands that read or restore work on the catalog and the store themselves, so they need no running
receiver. Errors pass through to ``__main__``, which makes exit codes of them.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console

from livebackup_receiver import __version__, cli_views, config
from livebackup_receiver.catalog import points, sessions, tokens
from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.catalog.presence import open_present
from livebackup_receiver.checks.result import Check, Inspection, worst
from livebackup_receiver.checks.table import run_checks
from livebackup_receiver.cli_catalog import catalog_app
from livebackup_receiver.cli_files import files_app
from livebackup_receiver.cli_leases import lease_app
from livebackup_receiver.cli_options import AsJson, ConfigFile
from livebackup_receiver.cli_rehearse import rehearse_app
from livebackup_receiver.cli_restore import restore_point
from livebackup_receiver.cli_retention import retention_app
from livebackup_receiver.cli_scrub import scrub
from livebackup_receiver.cli_sessions import session_app
from livebackup_receiver.cli_tree import show_tree
from livebackup_receiver.config import Config
from livebackup_receiver.model import Role, Session
from livebackup_receiver.rooms import outlooks

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich"
)
token_app = typer.Typer(
    no_args_is_help=True, help="Make, list and revoke the tokens of the API and the page."
)
app.add_typer(token_app, name="token")
app.add_typer(session_app, name="session")
app.add_typer(retention_app, name="retention")
app.add_typer(lease_app, name="lease")
app.add_typer(catalog_app, name="catalog")
app.add_typer(rehearse_app, name="rehearse")
app.add_typer(files_app, name="files")
app.command("scrub")(scrub)
app.command("restore")(restore_point)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"livebackup-receiver {__version__}")
        raise typer.Exit


@app.callback()
def describe(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version, and exit."),
    ] = False,
) -> None:
    """Receiver of Livebackup: takes group backups of QEMU virtual machines and keeps their restore points."""


@app.command()
def serve(config_file: ConfigFile = None) -> None:
    """Run the receiver until it is told to stop."""
    # Here and below: the web framework is slow to import, and most commands do not need it.
    from livebackup_receiver import daemon

    daemon.serve(config.load(config_file))


@app.command()
def check(config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Run every check. Exit code 0: all ok, 1: a warning, 2: a failure."""
    results = asyncio.run(_run_checks(config.load(config_file)))
    cli_views.show(cli_views.checks_table(results), {"checks": cli_views.plain(results)}, as_json)
    raise typer.Exit(worst(results).severity)


@app.command("points")
def list_points(
    group: Annotated[str | None, typer.Option(help="Only points of this group.")] = None,
    vm: Annotated[str | None, typer.Option(help="Only points that hold this VM.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    tree: Annotated[
        bool, typer.Option("--tree", help="Show which point of the VM lies on which; needs --vm.")
    ] = False,
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """List restore points, newest first."""
    if tree:
        show_tree(vm, config_file, as_json)
        return
    with open_present(config.load(config_file)) as catalog, catalog.read() as db:
        found = points.list_points(db, group=group, vm=vm, limit=limit)
    cli_views.show(cli_views.points_table(found), {"points": cli_views.plain(found)}, as_json)


@app.command("room")
def show_room(config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show of each volume what is used, what comes back by itself, and how long the rest will do."""
    options = config.load(config_file)
    with open_present(options) as catalog:
        found = outlooks(options, catalog, now=datetime.now(UTC))
    cli_views.show(cli_views.room_table(found), {"volumes": cli_views.plain(found)}, as_json)


@app.command("show-config")
def show_config(config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show every option with its effective value; secrets are hidden."""
    effective = config.load(config_file)
    cli_views.show(cli_views.config_text(effective), cli_views.config_values(effective), as_json)


@app.command("openapi")
def show_openapi() -> None:
    """Print the API as an OpenAPI document."""
    from livebackup_receiver.api.contract import openapi_document

    print(openapi_document(), end="")


@token_app.command("create")
def create_token(
    name: Annotated[str, typer.Option(help="Who or what will use it.")],
    role: Annotated[
        Role,
        typer.Option(
            help="backup: make points; read: see them; restore: see and export them; manage: see them, and "
            "decide what is kept."
        ),
    ],
    days: Annotated[
        int | None, typer.Option(min=1, help="Days until it expires; never, if not given.")
    ] = None,
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it, this once."""
    now = datetime.now(UTC)
    expires_at = now + timedelta(days=days) if days else None
    with open_catalog(config.load(config_file).database_url) as catalog, catalog.write() as db:
        token, secret = tokens.create(db, name=name, role=role, now=now, expires_at=expires_at)
    cli_views.show(secret, {**cli_views.token_facts(token), "token": secret}, as_json)
    if sys.stdout.isatty():
        Console(stderr=True).print("Keep it in a safe place: it is shown only now.")


@token_app.command("list")
def list_tokens(config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """List the tokens; what they are is not known to anybody but their users."""
    with open_catalog(config.load(config_file).database_url) as catalog, catalog.read() as db:
        found = tokens.every(db)
    facts = {"tokens": [cli_views.token_facts(token) for token in found]}
    cli_views.show(cli_views.tokens_table(found), facts, as_json)


@token_app.command("revoke")
def revoke_token(
    name: Annotated[str, typer.Argument(help="Name of the token.")], config_file: ConfigFile = None
) -> None:
    """Take a token away; whoever uses it is locked out within seconds."""
    with open_catalog(config.load(config_file).database_url) as catalog, catalog.write() as db:
        tokens.revoke(db, name)


async def _run_checks(options: Config) -> list[Check]:
    # Opened as it is: a check must show an old catalog, not migrate it.
    catalog = Catalog(options.database_url)

    def open_sessions() -> list[Session]:
        with catalog.read() as db:
            return sessions.list_sessions(db, ended=False)

    try:
        return await run_checks(Inspection(options, catalog, open_sessions, datetime.now(UTC)))
    finally:
        catalog.close()
