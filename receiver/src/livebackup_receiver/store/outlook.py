# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How full a volume is, what will come back by itself, and how long the rest will do; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from livebackup_receiver.model import Model

GROWTH_DAYS = 7


class Outlook(Model):
    """One volume; sizes in bytes.

    ``freeable_bytes`` is what layers of dropped points still take: at most that comes back. Growth is what
    was stored on a day, on the average of the last week, without what went meanwhile, so the days left are
    a careful guess; null: nothing was stored in that week.
    """

    volume: str
    total_bytes: int
    free_bytes: int
    used_bytes: int
    freeable_bytes: int
    growth_bytes_per_day: int
    days_left: float | None


@dataclass(frozen=True)
class DiskRoom:
    """What one disk takes: all its layers, those of dropped points, those of the last week; in bytes."""

    stored_bytes: int
    dropped_bytes: int
    new_bytes: int


def outlook_of(volume: Path, *, total: int, free: int, reserve: int, disks: Iterable[DiskRoom]) -> Outlook:
    """The outlook of a volume.

    :param reserve: what sessions must leave free
    :param disks: those that lie on it
    """
    there = list(disks)
    growth = sum(each.new_bytes for each in there) // GROWTH_DAYS
    freeable = sum(each.dropped_bytes for each in there)
    usable = max(0, free + freeable - reserve)
    return Outlook(
        volume=str(volume),
        total_bytes=total,
        free_bytes=free,
        used_bytes=sum(each.stored_bytes for each in there),
        freeable_bytes=freeable,
        growth_bytes_per_day=growth,
        days_left=round(usable / growth, 1) if growth else None,
    )


def by_home(
    disks: Mapping[tuple[str, str], DiskRoom], homes: Mapping[tuple[str, str], Path]
) -> dict[Path, list[DiskRoom]]:
    """The disks of each volume."""
    found: dict[Path, list[DiskRoom]] = {}
    for disk, home in homes.items():
        if disk in disks:
            found.setdefault(home, []).append(disks[disk])
    return found
