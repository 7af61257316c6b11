# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the command line shows things: as a table for people, as JSON for machines."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import humanize
from pydantic import BaseModel
from rich.console import Console, RenderableType
from rich.table import Table
from sqlalchemy import make_url

from livebackup_receiver.catalog.tokens import Token
from livebackup_receiver.checks.result import Check, CheckState
from livebackup_receiver.config import Config
from livebackup_receiver.model import Level, Point, PointDisk, rfc3339
from livebackup_receiver.store.outlook import Outlook

COLORS = {CheckState.OK: "green", CheckState.WARNING: "yellow", CheckState.FAILED: "red"}
HIDDEN = "***"
UNBROKEN_WIDTH = 1000


def show(view: RenderableType | str, facts: Any, as_json: bool) -> None:
    """Print one of the two on stdout."""
    if as_json:
        print(json.dumps(facts, indent=2))
    elif isinstance(view, str):
        print(view)
    else:
        # Where nobody looks, as in a pipe, lines must not be broken.
        Console(width=None if sys.stdout.isatty() else UNBROKEN_WIDTH).print(view)


def plain(models: Sequence[BaseModel]) -> list[Any]:
    """Models as the API would send them."""
    return [model.model_dump(mode="json") for model in models]


def checks_table(checks: Sequence[Check]) -> Table:
    """State, name and message of each check."""
    table = Table(box=None, pad_edge=False)
    for column in ("State", "Check", "Message"):
        table.add_column(column, overflow="fold")
    for check in checks:
        table.add_row(f"[{COLORS[check.state]}]{check.state}", check.name, check.message)
    return table


def points_table(points: Sequence[Point]) -> Table:
    """One line per point."""
    table = Table(box=None, pad_edge=False)
    for column in ("Point", "Group", "Cut (UTC)", "VMs", "Consistency", "Levels", "Stored"):
        table.add_column(column, no_wrap=column == "Point", overflow="fold")
    for point in points:
        table.add_row(*_point_cells(point))
    return table


def room_table(outlooks: Sequence[Outlook]) -> Table:
    """One line per volume."""
    table = Table(box=None, pad_edge=False)
    for column in ("Volume", "Free", "Of", "Used", "Comes back", "A day", "Days left"):
        table.add_column(column, overflow="fold")
    for each in outlooks:
        sizes = (each.free_bytes, each.total_bytes, each.used_bytes, each.freeable_bytes)
        left = f"{each.days_left:g}" if each.days_left is not None else "unknown"
        growth = humanize.naturalsize(each.growth_bytes_per_day, binary=True)
        table.add_row(each.volume, *(humanize.naturalsize(size, binary=True) for size in sizes), growth, left)
    return table


def tokens_table(tokens: Sequence[Token]) -> Table:
    """One line per token."""
    table = Table(box=None, pad_edge=False)
    for column in ("Name", "Role", "Made", "Expires"):
        table.add_column(column, overflow="fold")
    for token in tokens:
        expires = rfc3339(token.expires_at) if token.expires_at else "never"
        table.add_row(token.name, token.role, rfc3339(token.created_at), expires)
    return table


def token_facts(token: Token) -> dict[str, Any]:
    """A token without its secret."""
    expires_at = rfc3339(token.expires_at) if token.expires_at else None
    return {
        "name": token.name,
        "role": token.role,
        "created_at": rfc3339(token.created_at),
        "expires_at": expires_at,
    }


def config_values(config: Config) -> dict[str, Any]:
    """The effective options, without secrets."""
    values = config.model_dump(mode="json")
    values["catalog_url"] = make_url(config.database_url).render_as_string(hide_password=True)
    values["notify_urls"] = [url.partition("://")[0] + "://" + HIDDEN for url in config.notify_urls]
    return values


def config_text(config: Config) -> str:
    """The effective options as TOML, each under its description."""
    values: Mapping[str, Any] = config_values(config)
    return "\n\n".join(
        f"# {Config.model_fields[name].description}\n{name} = {json.dumps(value)}"
        for name, value in values.items()
    )


def _lack(point: Point) -> str:
    missing = ", ".join(each.vm for each in point.missing)
    return f"incomplete, without {missing}" if missing else "incomplete"


def _levels(disks: list[PointDisk]) -> str:
    """How many disks have each level; a resync is named only where there is one."""
    count = Counter(disk.level for disk in disks)
    shown = [level for level in Level if count[level] or level is not Level.RESYNC]
    return ", ".join(f"{count[level]} {level}" for level in shown)


def _point_cells(point: Point) -> list[str]:
    disks = [disk for vm in point.vms for disk in vm.disks]
    return [
        point.id,
        point.group if point.complete else f"{point.group} ({_lack(point)})",
        f"{point.cut_at:%Y-%m-%d %H:%M:%S}",
        ", ".join(vm.vm for vm in point.vms),
        point.consistency,
        _levels(disks),
        humanize.naturalsize(sum(disk.stored_bytes for disk in disks), binary=True),
    ]
