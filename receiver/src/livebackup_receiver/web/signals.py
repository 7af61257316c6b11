# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an open page is told to load anew when a session changes.

Pure. The page loads what changes with every session (groups, points, checks) only when a session opens
or ends, and nothing while VMs stand still: the receiver has better things to do then.
"""

from __future__ import annotations

from livebackup_receiver.coordinator.attendance import STANDING_STILL
from livebackup_receiver.events import SessionChanged
from livebackup_receiver.model import SessionState

SETTLED = "settled"
PROGRESS = "progress"


def signal_of(change: SessionChanged) -> str | None:
    """The name of the event for the page: ``settled``, ``progress`` or none."""
    if change.state in STANDING_STILL:
        return None
    opens_or_ends = change.state is SessionState.JOINING or change.state.ended
    return SETTLED if change.entered and opens_or_ends else PROGRESS
