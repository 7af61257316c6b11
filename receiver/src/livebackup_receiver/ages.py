# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How old something is, in words that are exact enough to act upon."""

from __future__ import annotations

from datetime import timedelta

import humanize

HOUR = timedelta(hours=1)
# "A day" may be 25 hours or 47, which matters for backups; up to here hours are counted.
HOURS_UP_TO = timedelta(days=3)


def describe(age: timedelta) -> str:
    """An age in one unit: ``5 minutes``, ``37 hours``, ``4 days``."""
    if timedelta(days=1) <= age < HOURS_UP_TO:
        return f"{age // HOUR} hours"
    return humanize.naturaldelta(age)
