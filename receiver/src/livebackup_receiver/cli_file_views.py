# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the command line shows what is in the disks of a VM; no word of a guest is taken for markup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import humanize
from rich.console import Console
from rich.table import Table
from rich.text import Text

from livebackup_receiver.browse.entries import Entry, FileKind, FileSystem, Listing
from livebackup_receiver.browse.extraction import LeftOut

NAMED = 20


def file_systems_table(found: Sequence[FileSystem]) -> Table:
    """One line per file system."""
    table = _table("File system", "Type", "Label", "Disk", "Size", "Used", "Files")
    for each in found:
        sizes = (_size(each.size), _size(each.used))
        files = each.problem or "can be looked at"
        _row(table, each.name, each.type, each.label, each.disk or "", *sizes, files)
    return table


def listing_table(found: Listing) -> Table:
    """One line per entry."""
    table = _table("Name", "Kind", "Size", "Mode", "Modified (UTC)")
    for each in found.entries:
        _row(table, *_words(each))
    return table


def rest_of(found: Listing) -> str:
    """What was not shown of a directory; empty: nothing."""
    until = found.offset + len(found.entries)
    return f"{found.total:,} entries; go on with --offset {until}" if until < found.total else ""


def left_out(found: Sequence[LeftOut]) -> str:
    """What was not taken out, the first of it by name."""
    lines = [f"left out: {each.path}, {each.why}" for each in found[:NAMED]]
    if len(found) > NAMED:
        lines.append(f"left out: {len(found) - NAMED} more; --json names all")
    return "\n".join(lines)


def say(words: str) -> None:
    """Say something beside the answer, on stderr."""
    if words:
        Console(stderr=True, soft_wrap=True).print(Text(words))


@contextmanager
def waiting(words: str) -> Iterator[None]:
    """Say what takes so long, where somebody looks."""
    console = Console(stderr=True)
    with console.status(words) if console.is_terminal else nullcontext():
        yield


def _words(entry: Entry) -> tuple[str, ...]:
    name = f"{entry.name} -> {entry.target}" if entry.target is not None else entry.name
    mode = "" if entry.mode is None else f"{entry.mode:04o}"
    modified = "" if entry.modified_at is None else f"{entry.modified_at:%Y-%m-%d %H:%M:%S}"
    return name, entry.kind, _size(entry.size) if entry.kind is FileKind.FILE else "", mode, modified


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _row(table: Table, *words: str) -> None:
    table.add_row(*(Text(word) for word in words))


def _size(count: int | None) -> str:
    return "" if count is None else humanize.naturalsize(count, binary=True)
