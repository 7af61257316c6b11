# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What reading a layer back has shown."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from pydantic import Field

from livebackup_receiver.model import Model, Moment
from livebackup_receiver.store.ranges import Range, clusters_of, coarsened, ranges_of


class Result(StrEnum):
    """From good to bad; unreadable: nobody can say, because something could not be read."""

    GOOD = "good"
    UNREADABLE = "unreadable"
    DAMAGED = "damaged"

    @property
    def severity(self) -> int:
        return list(Result).index(self)


class Finding(Model):
    """The result for one layer; ``ranges`` are where on the disk it is not what it was.

    A damaged layer without ranges is damaged in its structure, so nothing of it can be used.
    """

    result: Result
    problem: str | None = None
    ranges: list[Range] = Field(default_factory=list)

    @property
    def useless(self) -> bool:
        """Whether no chain that holds this layer can be read."""
        return self.result is Result.DAMAGED and not self.ranges


class LayerCheck(Finding):
    """A finding, and when it was made; null: it was made of layers that were merged into this one."""

    vm: str
    disk: str
    point: str
    checked_at: Moment | None


def of_merged(checks: Sequence[LayerCheck | None], *, virtual_size: int) -> LayerCheck | None:
    """What is known of a layer that was merged from others; None if it must count as never read.

    Damage of a lower layer may be masked by an upper one. That is left to the next scrub, which reads such a
    layer before all others; until then it is better to send too much again than too little.

    :param checks: of the layers, the uppermost last; None for one that was never read
    """
    known = [each for each in checks if each is not None]
    if hurt := [each for each in known if each.ranges]:
        clusters = clusters_of([one for each in hurt for one in each.ranges])
        return hurt[-1].model_copy(
            update={
                "result": max((each.result for each in hurt), key=lambda result: result.severity),
                "problem": "a layer with this damage was merged into it",
                "ranges": coarsened(ranges_of(clusters, virtual_size)),
                "checked_at": None,
            }
        )
    times = [each.checked_at for each in known if each.checked_at and each.result is Result.GOOD]
    if len(times) < len(checks):
        return None
    return known[-1].model_copy(update={"checked_at": min(times)})
