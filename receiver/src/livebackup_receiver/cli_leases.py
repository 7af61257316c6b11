# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands about points that VMs are read from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated
from urllib.parse import quote

import typer
from rich.table import Table

from livebackup_receiver import cli_views, config
from livebackup_receiver.catalog.engine import open_catalog
from livebackup_receiver.cli_options import AsJson, ConfigFile
from livebackup_receiver.errors import StoreBusy
from livebackup_receiver.leases import load_leases, release_lease
from livebackup_receiver.model import Role, rfc3339
from livebackup_receiver.running import connect
from livebackup_receiver.store.leases import Lease
from livebackup_receiver.store.lock import hold_store
from livebackup_receiver.store.paths import Store

lease_app = typer.Typer(no_args_is_help=True, help="Show and end the leases of instant restores.")


@lease_app.command("list")
def list_leases(config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """List the points that VMs are read from, which are kept for as long."""
    found = load_leases(Store(config.load(config_file).store))
    facts = [lease.model_dump(mode="json", exclude={"secret_digest", "format_version"}) for lease in found]
    cli_views.show(_table(found), {"leases": facts}, as_json)


@lease_app.command("release")
def release(
    lease: Annotated[str, typer.Argument(help="Id of the lease; `lease list` lists them.")],
    config_file: ConfigFile = None,
) -> None:
    """End a lease whose host is gone for good: a VM that still reads from it stands still from then on."""
    options = config.load(config_file)
    try:
        with hold_store(options.store):
            release_lease(Store(options.store), lease)
    except StoreBusy:
        with (
            open_catalog(options.database_url) as catalog,
            connect(options, catalog, Role.MANAGE) as receiver,
        ):
            receiver.delete(f"/leases/{quote(lease, safe='')}")


def _table(leases: Sequence[Lease]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("Lease", "Point", "VM", "Disks", "Host", "Since (UTC)", "Last used", "Ends"):
        table.add_column(column, no_wrap=column in ("Lease", "Point"), overflow="fold")
    for each in leases:
        moments = (rfc3339(moment) for moment in (each.taken_at, each.used_at, each.expires_at))
        table.add_row(each.id, each.point, each.vm, ", ".join(each.disks), each.holder, *moments)
    return table
