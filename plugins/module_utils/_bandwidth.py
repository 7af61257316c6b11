# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""How fast the jobs of a host may be. For internal use of livebackup.qemu only.

Three limits hold at the same time: of each disk, of the host, which its running jobs share, and of the
session, of which the receiver gives each job its share.
"""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.livebackup.qemu.plugins.module_utils import _names
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import OptionError
from ansible_collections.livebackup.qemu.plugins.module_utils._member import Member, Members

# What an operator may ask for; shares may be smaller.
MINIMUM = 1 << 20
# 0 would mean no limit, and far less than this no end.
_SLOWEST = 1 << 16
# QEMU sends so much at once, several times over, and then waits for as long as the speed demands. From
# MINIMUM on that is no longer than any sensible limit of the stall watch.
_AT_ONCE = 4 << 20


def checked(name: str, speed: int) -> int:
    """An option in bytes per second, 0 for no limit. Raises OptionError."""
    if 0 < speed < MINIMUM:
        raise OptionError(
            f"{name} {speed} is too low; give at least {MINIMUM} bytes per second, or 0 for no limit.",
            **{name: speed},
        )
    return speed


def job_speed(running: int, *, disk: int, host: int, share: int | None) -> int:
    """Bytes per second for each of so many running jobs of a host, 0 for no limit. Pure.

    ``disk`` and ``host`` are 0, and ``share`` is None, where there is no limit.
    """
    limits = [limit for limit in (disk, host // max(1, running), share) if limit]
    return max(_SLOWEST, min(limits)) if limits else 0


def patience(speed: int) -> float:
    """Seconds for which a connection may be idle only because its job is slow. Pure."""
    return _AT_ONCE / speed if 0 < speed < MINIMUM else 0.0


@dataclass
class Pace:
    """The speed of all jobs of a host; ``disk`` and ``host`` are the operator's limits, 0 for none."""

    disk: int
    host: int
    speed: int = 0

    def change(self, running: int, share: int | None) -> int:
        """The speed from now on, with so many running jobs and this share of the session's limit."""
        self.speed = job_speed(running, disk=self.disk, host=self.host, share=share)
        return self.speed

    async def keep(self, members: Members, running: int, share: int | None) -> None:
        """Divide anew if jobs have ended, here or elsewhere. QAPI: block-job-set-speed."""
        before = self.speed
        if self.change(running, share) != before:
            await members.do(self._pace)

    async def _pace(self, member: Member) -> None:
        for plan in member.plans:
            # first, so that the watch never takes a job for stalled that has just become slow
            member.channels[plan.index].patience = patience(self.speed)
            # a job that has ended refuses it
            job = {"device": _names.job(plan.index), "speed": self.speed}
            await member.monitor.unless_refused("block-job-set-speed", job)
