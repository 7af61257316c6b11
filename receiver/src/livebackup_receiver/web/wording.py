# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values as words for people: sizes, times, ages, states.

Pure; every function is a Jinja filter of the page (``FILTERS``). Times come as RFC 3339 strings, as the API
gives them; sizes are bytes, pauses milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import humanize

from livebackup_receiver import ages

MOODS = {
    "ok": "ok",
    "committed": "ok",
    "complete": "ok",
    "finished": "ok",
    "sealed": "ok",
    "good": "ok",
    "passed": "ok",
    "warning": "warn",
    "could-not-run": "warn",
    "not-started": "warn",
    "unreadable": "warn",
    "incomplete": "warn",
    "missing": "warn",
    "failed": "bad",
    "aborted": "bad",
    "damaged": "bad",
    "waiting": "idle",
    "planned": "idle",
    "never": "idle",
    "keep": "ok",
    "drop": "warn",
    "pinned": "idle",
    "locked": "idle",
    "head": "ok",
    "heads": "idle",
    "expired": "idle",
}
"""How a state of any machine looks; every state not named here is work in progress."""


def mood(state: str) -> str:
    """The look of a state: ``ok``, ``warn``, ``bad``, ``busy`` or ``idle``."""
    return MOODS.get(state, "busy")


def instant(moment: str) -> datetime:
    """The instant an RFC 3339 string names."""
    return datetime.fromisoformat(moment).astimezone(UTC)


def utc(moment: str) -> str:
    """Date and time to the second, for reading."""
    return f"{instant(moment):%Y-%m-%d %H:%M:%S}"


def clock(moment: str) -> str:
    """Time of day to the millisecond; the steps of a cut lie that close."""
    return f"{instant(moment):%H:%M:%S.%f}"[:-3]


def age(moment: str, now: datetime) -> str:
    """How long ago, in one unit: ``3 hours ago``."""
    return f"{ages.describe(now - instant(moment))} ago"


def offset(moment: str, start: str) -> str:
    """Seconds since the start: ``+1.204 s``."""
    return f"+{(instant(moment) - instant(start)).total_seconds():.3f} s"


def size(count: int | None) -> str:
    """Bytes in binary units; unknown is said, not shown as zero."""
    return "unknown" if count is None else humanize.naturalsize(count, binary=True)


def rate(bytes_per_s: int | None) -> str:
    """A rate in binary units; nothing if it is not known yet."""
    return "" if bytes_per_s is None else f"{size(bytes_per_s)}/s"


def left(seconds: float | None) -> str:
    """The time that something still takes; nothing if it is not known."""
    return "" if seconds is None else f"{ages.describe(timedelta(seconds=seconds))} left"


def pause(milliseconds: float | None) -> str:
    """How long a VM stood still."""
    if milliseconds is None:
        return "unknown"
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def anchor(name: str) -> str:
    """A name as the id of an element."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


FILTERS: dict[str, Callable[..., Any]] = {
    word.__name__: word for word in (mood, utc, clock, age, offset, size, rate, left, pause, anchor)
}
