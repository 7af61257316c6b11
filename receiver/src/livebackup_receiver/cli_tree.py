# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`points --tree`: which point of a VM lies on which."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from livebackup_receiver import cli_views, config
from livebackup_receiver.catalog.presence import open_present
from livebackup_receiver.catalog.trees import load_tree
from livebackup_receiver.tree import DiskTree, Row, VmTree, graph_text, rows_of


def show_tree(vm: str | None, config_file: Path | None, as_json: bool) -> None:
    """Print the trees of a VM's disks."""
    if vm is None:
        raise typer.BadParameter("a tree is that of one VM; name it with --vm", param_hint="--tree")
    with open_present(config.load(config_file)) as catalog, catalog.read() as db:
        tree = load_tree(db, vm)
    cli_views.show(_view(tree), tree.model_dump(mode="json"), as_json)


def _view(tree: VmTree) -> Group:
    return Group(*(part for each in tree.trees for part in (Text(", ".join(each.disks)), _table(each))))


def _table(tree: DiskTree) -> Table:
    rows = rows_of(tree.points)
    width = max(row.width for row in rows)
    table = Table(box=None, pad_edge=False)
    for column in ("", "Point", "Group", "Cut (UTC)", "Level", ""):
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(graph_text(row, width), *_cells(row))
    return table


def _cells(row: Row) -> tuple[str, ...]:
    point = row.point
    remark = "head" if point.head else "expired" if point.dropped else ""
    return point.point, point.group, f"{point.cut_at:%Y-%m-%d %H:%M}", point.level, remark
