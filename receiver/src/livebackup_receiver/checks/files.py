# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of what it takes to look at single files; a machine without it does all else."""

from __future__ import annotations

import asyncio

from livebackup_receiver.browse.appliance import kvm_is_there, require_means
from livebackup_receiver.checks.result import Check, Inspection, ok
from livebackup_receiver.errors import BrowseUnavailable


async def check_files(inspection: Inspection) -> list[Check]:
    """Whether files of points can be looked at, and how fast; never a warning: it is a matter of choice."""
    try:
        await asyncio.to_thread(require_means)
    except BrowseUnavailable as error:
        return [ok("files", str(error))]
    speed = "with KVM" if kvm_is_there() else "without KVM, which makes it slow"
    return [ok("files", f"files of points can be looked at, {speed}")]
