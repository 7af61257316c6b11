# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How often a group is backed up, as its own points tell; pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from livebackup_receiver.retention.facts import PointFacts, newest_first
from livebackup_receiver.retention.schedule import Schedule

RECENT = 30
# Up to a length, intervals are taken for multiples of this; in seconds.
GRAINS = ((2 * 3600, 300), (86400, 3600))
DAY = 86400


def usual_schedule(points: Sequence[PointFacts]) -> Schedule | None:
    """An interval that comes near to that of the last points; None if there are fewer than two.

    The median is taken: a backup that was made by hand in between does not matter.
    """
    cuts = [point.cut_at for point in newest_first(points)[: RECENT + 1]]
    spans_s = [(later - earlier).total_seconds() for later, earlier in pairwise(cuts)]
    return Schedule(interval_s=_round(median(spans_s))) if spans_s else None


def _round(seconds: float) -> int:
    grain = next((grain for limit, grain in GRAINS if seconds < limit), DAY)
    return max(round(seconds / grain), 1) * grain
