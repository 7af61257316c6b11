# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the command line shows sessions to people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import humanize
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from livebackup_receiver import ages
from livebackup_receiver.coordinator.actors import Actor
from livebackup_receiver.model import MissingVm, Session, Transfer, TransferState


def sessions_table(found: Sequence[Session]) -> Table:
    """One line per session."""
    table = _table("Session", "Group", "Opened (UTC)", "State", "Reason or alarm")
    for session in found:
        opened = f"{session.opened_at:%Y-%m-%d %H:%M:%S}"
        words = session.reason or session.alarm or ""
        table.add_row(session.id, session.group, opened, session.state, Text(words))
    return table


def session_view(session: Session, actors: Sequence[Actor], *, now: datetime | None = None) -> Group:
    """A session: headline, alarm, actors, missing VMs, disks."""
    headline = f"Session {session.id} of group {session.group}: {session.state}, policy {session.policy}"
    words = [each for each in (session.reason, session.alarm) if each]
    parts: list[RenderableType] = [Text(headline), *(Text(each) for each in words), Text()]
    parts.append(_actors(actors, now or datetime.now(UTC)))
    if session.missing:
        parts += [Text(), _missing(session.missing)]
    if session.disks:
        parts += [Text(), _disks(session.disks)]
    return Group(*parts)


def _actors(actors: Sequence[Actor], now: datetime) -> Table:
    table = _table("Who", "State", "Said last", "When", "Waits for")
    for actor in actors:
        when = f"{ages.describe(now - actor.at)} ago" if actor.at else ""
        table.add_row(actor.name, actor.state, Text(actor.said or ""), when, Text(actor.waits_for))
    return table


def _missing(vms: Sequence[MissingVm]) -> Table:
    table = _table("Missing VM", "Reason")
    for each in vms:
        table.add_row(each.vm, Text(each.reason))
    return table


def _disks(disks: Sequence[Transfer]) -> Table:
    table = _table("Disk", "Host", "Level", "State", "Done", "Sent", "Rate", "Left")
    for disk in disks:
        table.add_row(f"{disk.vm}/{disk.disk}", disk.host, Text(_level(disk)), disk.state, *_progress(disk))
    return table


def _level(disk: Transfer) -> str:
    return f"{disk.level} ({disk.level_reason})"


def _progress(disk: Transfer) -> tuple[str, str, str, str]:
    done = f"{_size(disk.done_bytes)} of {_size(disk.total_bytes)}" if disk.total_bytes else ""
    running = disk.state is TransferState.TRANSFERRING
    rate = f"{_size(disk.bytes_per_s)}/s" if running and disk.bytes_per_s is not None else ""
    left = disk.remaining_s if running else None
    remaining = ages.describe(timedelta(seconds=left)) if left is not None else ""
    return done, _size(disk.sent_bytes), rate, remaining


def _size(count: int) -> str:
    return humanize.naturalsize(count, binary=True)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column == "Session", overflow="fold")
    return table
