# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is passed into the enclosure, and what comes out of it; pure."""

from __future__ import annotations

from pathlib import PurePosixPath

from livebackup_receiver.model import Model
from livebackup_receiver.recovery.plan import RecoveryPlan
from livebackup_receiver.rehearsal.result import MemberResult

INSIDE = PurePosixPath("/rehearsal")
"""Where the enclosure sees the directory that it shares with the outside."""
SCRIPT = "script.json"
SOCKET = "nbd"


class DiskPart(Model):
    """A disk: the NBD export that it is read from, and the image that takes what is written."""

    disk: str
    export: str
    overlay: str


class Script(Model):
    """What is to be brought up; ``cast`` has the disks of each VM, in boot order.

    :param absent: VMs of the plan that the point does not hold
    :param overlay_bytes: how large each image may become
    :param files: the directory of kernels
    """

    plan: RecoveryPlan
    cast: dict[str, list[DiskPart]]
    absent: list[str]
    accelerators: list[str]
    overlay_bytes: int
    files: str | None


class Line(Model):
    """A line that the enclosure says: how far it is, what became of a VM, or that it could not go on."""

    said: str | None = None
    accelerator: str | None = None
    member: MemberResult | None = None
    problem: str | None = None
    ended: bool = False


def console_of(vm: str) -> str:
    """The name of the file of a VM's console."""
    return f"{vm}.console"


def screenshot_of(vm: str) -> str:
    """The name of the file of a VM's display."""
    return f"{vm}.png"
