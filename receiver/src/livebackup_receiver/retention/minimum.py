# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people may not drop by hand either: the last complete points that a policy demands; pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from livebackup_receiver.retention.facts import PointFacts
from livebackup_receiver.retention.policy import ScopedPolicy


def undercut(
    point: str, points: Sequence[PointFacts], policies: Sequence[ScopedPolicy], now: datetime
) -> ScopedPolicy | None:
    """The policy whose minimum there would be no more without a point, if there is one.

    :param points: all of the point's group, in any order
    """
    for each in policies:
        counted = {one.id for one in points if _counts(one, each, now)}
        if point in counted and len(counted) <= each.policy.minimum:
            return each
    return None


def _counts(point: PointFacts, policy: ScopedPolicy, now: datetime) -> bool:
    """As verdicts count: incomplete points, and those cut in the future, take nobody's place."""
    return point.complete and point.cut_at <= now and policy.scope.covers(point.group, point.disks)
