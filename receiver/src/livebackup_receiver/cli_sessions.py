# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands about sessions: see what one does and waits for, and end one that is stuck.

They ask the running receiver, which alone knows the present; the catalog answers if none runs.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from livebackup_receiver import cli_session_views, cli_views, config
from livebackup_receiver.catalog import sessions
from livebackup_receiver.catalog.engine import open_catalog
from livebackup_receiver.cli_options import AsJson, ConfigFile
from livebackup_receiver.coordinator.actors import Actor, actors_of
from livebackup_receiver.errors import NotRunning
from livebackup_receiver.model import Session
from livebackup_receiver.running import connect

session_app = typer.Typer(no_args_is_help=True, help="See running and ended sessions, and abort one.")

SessionId = Annotated[str, typer.Argument(help="Id of the session; `session list` shows them.")]


@session_app.command("list")
def list_sessions(
    group: Annotated[str | None, typer.Option(help="Only sessions of this group.")] = None,
    open_only: Annotated[bool, typer.Option("--open", help="Only sessions that have not ended.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20,
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """List sessions, newest first."""
    options = config.load(config_file)
    asked = {"limit": limit, "group": group, "state": "open" if open_only else None}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    with open_catalog(options.database_url) as catalog, connect(options, catalog) as receiver:
        try:
            answer = receiver.get(f"/sessions?{query}")["sessions"]
            found = [Session.model_validate(each) for each in answer]
        except NotRunning as error:
            _say_that_it_is_old(error)
            with catalog.read() as db:
                ended = False if open_only else None
                found = sessions.list_sessions(db, group=group, ended=ended, limit=limit)
    table = cli_session_views.sessions_table(found)
    cli_views.show(table, {"sessions": cli_views.plain(found)}, as_json)


@session_app.command("show")
def show_session(session: SessionId, config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show what everyone in a session last said and waits for, and how far its disks are."""
    options = config.load(config_file)
    with open_catalog(options.database_url) as catalog, connect(options, catalog) as receiver:
        try:
            record = Session.model_validate(receiver.get(f"/sessions/{quote(session)}"))
            answer = receiver.get(f"/sessions/{quote(session)}/actors")["actors"]
            actors = [Actor.model_validate(each) for each in answer]
        except NotRunning as error:
            _say_that_it_is_old(error)
            with catalog.read() as db:
                record = sessions.load_session(db, session)
            actors = actors_of(record, None)
    facts: dict[str, Any] = {"session": record.model_dump(mode="json"), "actors": cli_views.plain(actors)}
    cli_views.show(cli_session_views.session_view(record, actors), facts, as_json)


@session_app.command("abort")
def abort_session(
    session: SessionId,
    reason: Annotated[str, typer.Option(help="Why; it is kept, and every host is told.")] = "by an operator",
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Abort a session; its files are gone when this returns. A committed one stays."""
    options = config.load(config_file)
    with open_catalog(options.database_url) as catalog, connect(options, catalog) as receiver:
        record = Session.model_validate(
            receiver.post(f"/sessions/{quote(session)}/abort", {"reason": reason})
        )
    text = f"session {record.id} of group {record.group} is {record.state}: {record.reason}"
    cli_views.show(text, record.model_dump(mode="json"), as_json)


def _say_that_it_is_old(error: NotRunning) -> None:
    print(f"{error.cause}, so this is what the catalog says.", file=sys.stderr)
