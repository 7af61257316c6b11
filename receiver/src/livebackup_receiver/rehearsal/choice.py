# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""When which group is to be rehearsed; pure."""

from __future__ import annotations

from datetime import datetime

from livebackup_receiver.recovery.declared import DeclaredPlan
from livebackup_receiver.retention.schedule import Schedule


def due_at(declared: DeclaredPlan, last: datetime | None) -> datetime | None:
    """When a group is to be rehearsed next, which may have been long ago; None: never by itself.

    :param last: when its last rehearsal began, if there was any
    """
    plan = declared.plan
    if plan.schedule is None:
        return None
    since = max(last, declared.changed_at) if last is not None else declared.changed_at
    return next(Schedule.parse(plan.schedule).runs(since, after=since, zone=plan.zone))
