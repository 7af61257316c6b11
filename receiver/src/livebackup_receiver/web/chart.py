# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The curve of a forecast; pure.

Sizes are those after each backup and its retention, so the curve goes in steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby

from livebackup_receiver.retention.outlook import ForecastStep

WIDTH = 600
HEIGHT = 120


@dataclass(frozen=True)
class Chart:
    """The corners of an area, as SVG takes them, in a view box of this width and height."""

    area: str
    width: int = WIDTH
    height: int = HEIGHT


def chart_of(steps: Sequence[ForecastStep]) -> Chart:
    """The estimated bytes over time, from nothing up to the most there ever are."""
    columns = [_most(list(same)) for dummy, same in groupby(steps, key=lambda step: _column(step, steps))]
    top = max(step.estimated_bytes for step in steps) or 1
    corners = [(0, HEIGHT)]
    for step in columns:
        place, height = _column(step, steps), round(HEIGHT * (1 - step.estimated_bytes / top))
        corners += [(place, corners[-1][1]), (place, height)]
    corners += [(WIDTH, corners[-1][1]), (WIDTH, HEIGHT)]
    return Chart(" ".join(f"{x},{y}" for x, y in corners))


def _column(step: ForecastStep, steps: Sequence[ForecastStep]) -> int:
    span = max(steps[-1].at - steps[0].at, timedelta.resolution)
    return int(WIDTH * ((step.at - steps[0].at) / span))


def _most(steps: Sequence[ForecastStep]) -> ForecastStep:
    """Of steps too near to be told apart the greatest, which is what must fit."""
    return max(steps, key=lambda step: step.estimated_bytes)
