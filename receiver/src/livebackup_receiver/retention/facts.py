# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What retention knows of a point."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from operator import attrgetter

Disk = tuple[str, str]


@dataclass(frozen=True, slots=True)
class PointFacts:
    """A point of a group; all times are aware.

    :param cut_at: becomes UTC, because Python compares times of one zone by the wall clock
    :param disks: VM and disk of each image that it holds
    :param pin_reason: why people keep it; None: it is not pinned
    :param pin_until: when the pin ends; None: never
    :param locked_until: until when nobody may remove it
    :param in_use: in words, what is being read from it; it is kept for as long
    :raise ValueError: ``cut_at`` is not aware
    """

    id: str
    group: str
    cut_at: datetime
    complete: bool
    disks: tuple[Disk, ...]
    pin_reason: str | None = None
    pin_until: datetime | None = None
    locked_until: datetime | None = None
    in_use: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.cut_at.tzinfo is None:
            raise ValueError(f"point {self.id}: the time of its cut has no time zone")
        object.__setattr__(self, "cut_at", self.cut_at.astimezone(UTC))


def used(points: Iterable[PointFacts], in_use: Mapping[str, Sequence[str]]) -> list[PointFacts]:
    """The same points, with what is being read from each."""
    return [replace(each, in_use=tuple(in_use[each.id])) if each.id in in_use else each for each in points]


def newest_first(points: Iterable[PointFacts]) -> list[PointFacts]:
    """The points in the order of their cuts, those of one moment in that of their ids."""
    return sorted(points, key=attrgetter("cut_at", "id"), reverse=True)
