# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What layers take, and will take when points between them have gone: an estimate from the group's history.

The estimate assumes that each disk is changed at the rate it was changed lately, and that changes hit its
data evenly. So a layer that holds the fraction ``f`` of a disk of ``full`` bytes, and the next one, which
holds ``g``, overlap by ``f * g``: when the point of the former goes, the latter takes over the rest and takes
``full * (1 - (1 - f) * (1 - g))``. Seen over time: the changes of the span ``t`` take
``full * (1 - exp(-rate * t))``, where ``rate`` is the median of the last 30 increments. Increments as long as
those cost their median.

Real guests write again and again to the same places, which overlap more, so what is kept for long takes
rather less than estimated. That a disk fills up is not foreseen, nor are rare large changes, which a median
does not see.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median

from livebackup_receiver.retention.facts import Disk, PointFacts

RECENT = 30
Key = tuple[datetime, str]


@dataclass(frozen=True, slots=True)
class Layer:
    """What a point stores of one disk; a full one stands on no other."""

    stored_bytes: int
    full: bool = False


# of each point, by its id, the layer of each of its disks
History = Mapping[str, Mapping[Disk, Layer]]
NOTHING = Layer(0)


@dataclass(frozen=True)
class DiskEstimate:
    """How a disk behaves.

    :param full_bytes: what all of it takes
    :param rate: of what is left unchanged, the logarithm of what changes in a second; None: unknown, as none
        of its points is an increment
    """

    full_bytes: int
    rate: float | None

    def increment(self, span_s: float) -> Layer:
        """The layer of an increment after so many seconds; without a rate it is taken to be empty."""
        if not self.rate or span_s <= 0:
            return NOTHING
        return Layer(round(-self.full_bytes * math.expm1(-self.rate * span_s)))

    def merged(self, lower: Layer, upper: Layer) -> Layer:
        """What becomes of a layer when it takes over what it needs of the one it stands on."""
        if upper.full:
            return upper
        overlap = lower.stored_bytes * upper.stored_bytes / max(self.full_bytes, 1)
        return Layer(round(lower.stored_bytes + upper.stored_bytes - overlap), lower.full)


def estimate(disk: Disk, points: Sequence[PointFacts], history: History) -> DiskEstimate:
    """What the history says of a disk.

    :param points: those that hold it, oldest first
    """
    layers = [(point.cut_at, history.get(point.id, {}).get(disk, NOTHING)) for point in points]
    newest_full = next((layer.stored_bytes for dummy, layer in reversed(layers) if layer.full), 0)
    full = max([newest_full, *(layer.stored_bytes for dummy, layer in layers if not layer.full)])
    increments = [
        (layer.stored_bytes, (cut_at - before).total_seconds())
        for (before, dummy), (cut_at, layer) in pairwise(layers)
        if not layer.full and cut_at > before
    ]
    rates = [_rate(stored / full, span_s) if full else 0.0 for stored, span_s in increments[-RECENT:]]
    return DiskEstimate(full, median(rates) if rates else None)


def _rate(fraction: float, span_s: float) -> float:
    return -math.log1p(-fraction) / span_s if fraction < 1 else math.inf


class Chain:
    """The layers of one disk, whose sizes change as points come and go.

    :ivar stored_bytes: of all its layers
    """

    def __init__(self, estimate: DiskEstimate) -> None:
        self.estimate = estimate
        self.stored_bytes = 0
        self._order: list[Key] = []
        self._layers: dict[Key, Layer] = {}

    def add(self, point: PointFacts, layer: Layer) -> None:
        """Add what a point stores."""
        key = (point.cut_at, point.id)
        insort(self._order, key)
        self._layers[key] = layer
        self.stored_bytes += layer.stored_bytes

    def add_increment(self, point: PointFacts) -> None:
        """Add what a planned point will probably store."""
        span_s = (point.cut_at - self._order[-1][0]).total_seconds() if self._order else 0.0
        self.add(point, self.estimate.increment(span_s))

    def drop(self, point: PointFacts) -> None:
        """Take a point away; the next one, if there is any, takes over what it needs of it."""
        key = (point.cut_at, point.id)
        position = bisect_left(self._order, key)
        del self._order[position]
        dropped = self._layers.pop(key)
        self.stored_bytes -= dropped.stored_bytes
        if position < len(self._order):
            self._grow(self._order[position], dropped)

    def _grow(self, key: Key, dropped: Layer) -> None:
        before = self._layers[key]
        self._layers[key] = self.estimate.merged(dropped, before)
        self.stored_bytes += self._layers[key].stored_bytes - before.stored_bytes
