# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builders of points and policies with sensible values; a test names only what it is about."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from livebackup_receiver.retention.policy import RetentionPolicy, Scope, ScopedPolicy
from livebackup_receiver.retention.verdicts import PointFacts, Verdict

# a Friday
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
DISK = ("db1", "virtio0")


def at(text: str) -> datetime:
    """A moment in UTC unless the text has an offset."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def point(cut_at: datetime | str = NOW, **facts: Any) -> PointFacts:
    moment = at(cut_at) if isinstance(cut_at, str) else cut_at
    defaults: dict[str, Any] = {
        "id": moment.astimezone(UTC).isoformat(),
        "group": "nightly",
        "complete": True,
        "disks": (DISK,),
    }
    return PointFacts(cut_at=moment, **{**defaults, **facts})


def series(count: int, step: timedelta, *, last: datetime = NOW) -> list[PointFacts]:
    """So many points, the newest first."""
    return [point(last - number * step) for number in range(count)]


def scoped(scope: str = "group:nightly", **rules: Any) -> ScopedPolicy:
    return ScopedPolicy(Scope.parse(scope), RetentionPolicy(**rules))


def kept(verdicts: Iterable[Verdict]) -> list[PointFacts]:
    return [verdict.point for verdict in verdicts if verdict.keep]


def rules(verdicts: Iterable[Verdict], prefix: str = "") -> list[str]:
    """What the rules say that begin so, newest point first."""
    return [rule for verdict in verdicts for rule in verdict.rules if rule.startswith(prefix)]
