# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands about the catalog, which is expendable: compare it with the store, or make it from there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from livebackup_receiver import cli_views, config
from livebackup_receiver.catalog.comparison import Difference, compare
from livebackup_receiver.catalog.contents import load_contents
from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.catalog.rebuild import rebuild
from livebackup_receiver.catalog.replacement import replace_catalog
from livebackup_receiver.cli_options import ConfigFile
from livebackup_receiver.clock import now
from livebackup_receiver.errors import ManifestInvalid
from livebackup_receiver.store.format import check_format, ensure_format
from livebackup_receiver.store.inventory import take_inventory
from livebackup_receiver.store.lock import hold_store
from livebackup_receiver.store.paths import Store
from livebackup_receiver.store.policies import read_policies
from livebackup_receiver.store.survey import Survey, survey

catalog_app = typer.Typer(
    no_args_is_help=True, help="Compare the catalog with the store, or make it anew from there."
)

AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
LOST = (
    "tokens and sessions are in no file of the store: make new tokens with `livebackup-receiver token create`"
)


@catalog_app.command("check")
def check(config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show where catalog and store differ. Exit code 0: nowhere, 10: somewhere."""
    options = config.load(config_file)
    store = Store(options.store)
    check_format(store)
    with open_catalog(options.database_url) as catalog:
        found = _differences(catalog, store)
    text = "\n".join(each.sentence for each in found) or "catalog and store say the same"
    cli_views.show(text, {"differences": cli_views.plain(found)}, as_json)
    raise typer.Exit(ManifestInvalid.exit_code if found else 0)


@catalog_app.command("rebuild")
def rebuild_catalog(config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Make a new catalog from the store alone, while no receiver runs. The old one is kept beside it."""
    options = config.load(config_file)
    store = Store(options.store)
    with hold_store(options.store):
        ensure_format(store)
        found, kept = replace_catalog(
            options.database_url, lambda catalog: rebuild(catalog, store), now=now()
        )
    facts = {
        "points": [each.id for each in found.points],
        "dropped": [each.id for each in found.ghosts],
        "incomplete": [
            {"point": each.point, "group": each.group, "problems": each.problems, "kept": each.kept}
            for each in found.incomplete
        ],
        "old_catalog": str(kept) if kept else None,
        "lost": LOST,
    }
    cli_views.show(_told(found, kept), facts, as_json)


def _differences(catalog: Catalog, store: Store) -> list[Difference]:
    """What differs now; a running receiver goes on meanwhile, so only what was so before and after counts."""
    with catalog.read() as db:
        before = load_contents(db)
    inventory, policies = take_inventory(store), read_policies(store)
    with catalog.read() as db:
        after = load_contents(db)
    found = survey(inventory, store)
    later = compare(inventory, found, policies, after)
    return [each for each in compare(inventory, found, policies, before) if each in later]


def _told(found: Survey, kept: Path | None) -> str:
    """What a rebuild has come to, for people."""
    lines = [f"points: {len(found.points)}, dropped ones whose layers are still there: {len(found.ghosts)}"]
    for each in found.incomplete:
        fate = (
            "what is left of it is a point without the rest"
            if each.kept
            else "its files are left as they are"
        )
        lines.append(
            f"point {each.point} of group {each.group} is not whole, {fate}: {'; '.join(each.problems)}"
        )
    if kept:
        lines.append(f"the old catalog is kept as {kept}")
    return "\n".join([*lines, LOST])
