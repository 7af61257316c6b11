# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can end a session while everyone waits: missing or silent participants, and a full store."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from livebackup_receiver.coordinator import membership
from livebackup_receiver.coordinator.attendance import NEEDED
from livebackup_receiver.coordinator.progress import Standstill, stuck_disks
from livebackup_receiver.coordinator.session import LiveSession
from livebackup_receiver.errors import (
    JoinTimedOut,
    ParticipantSilent,
    ReceiverError,
    SessionAborted,
    StoreFull,
    TransferStalled,
)
from livebackup_receiver.model import Participant, Policy, Session, SessionState
from livebackup_receiver.store import room, volumes

# Less than this is no room at all: a cluster with its tables may not fit any more.
FULL_BYTES = 1 << 20
DISKS_NAMED = 5


class Watch:
    """Looks after one session; every look is short and does no waiting."""

    def __init__(
        self,
        live: LiveSession,
        *,
        store: Path,
        reserve_bytes: int,
        join_timeout_s: float,
        stall_alarm_s: float,
        stall_abort_s: float,
        others: Callable[[], list[Session]],
    ) -> None:
        """:param others: the sessions that run now"""
        self._live = live
        self._store = store
        # the volumes that the session's disks are on, once it is planned
        self._volumes = {store}
        self._reserve_bytes = reserve_bytes
        self._others = others
        self._join_timeout_s = join_timeout_s
        self._stall_alarm_s = stall_alarm_s
        self._stall_abort_s = stall_abort_s
        self._standstill = Standstill()
        self._opened = time.monotonic()

    def look(self) -> None:
        """Fail participants that are missing or silent; ``changed`` is held.

        :raise JoinTimedOut: a host has not joined in time, and the policy is ``all``
        :raise ParticipantSilent: a participant is silent, and the policy is ``all``
        :raise StoreFull: the session has used up the store's room
        :raise TransferStalled: a host makes no progress, and the policy is ``all``
        :raise SessionAborted: a VM that the point needs is not there any more
        """
        if self._live.record.state is SessionState.JOINING:
            self._look_for_missing()
        for participant in self._live.present:
            self._listen_to(participant)
        if self._live.record.state is SessionState.TRANSFERRING:
            self.require_room({})
            self._look_for_standstill()
        membership.require(self._live.record)

    def require_room(self, needs: Mapping[Path, int]) -> None:
        """Ask whether each volume can take so many bytes beside what others are still to store.

        Where those will store it is not asked: better to refuse a session than to fill a volume.

        :raise StoreFull: one cannot
        """
        self._volumes |= set(needs)
        others = room.outstanding_bytes(self._others()) if any(needs.values()) else 0
        for volume in sorted(self._volumes):
            need = needs.get(volume, 0) + (others if needs.get(volume) else 0)
            free = volumes.free_bytes(volume)
            room.require_room(volume, free=free, reserve=self._reserve_bytes, need=need)

    def explain(self, problem: ReceiverError) -> ReceiverError:
        """The cause behind a problem: where writes fail because the store is full, that is it."""
        try:
            free, volume = min((room.free_bytes(each), each) for each in self._volumes)
        except OSError:
            return problem
        receiving = self._live.record.state in (SessionState.TRANSFERRING, SessionState.CUTTING)
        if not receiving or free >= FULL_BYTES or isinstance(problem, StoreFull):
            return problem
        missing = sum(max(0, disk.total_bytes - disk.done_bytes) for disk in self._live.record.disks)
        return StoreFull(str(volume), missing + self._reserve_bytes, free)

    def _look_for_missing(self) -> None:
        joined = {each.host for each in self._live.record.participants}
        missing = [host for host in self._live.record.hosts if host not in joined]
        if missing and time.monotonic() - self._opened > self._join_timeout_s:
            error = JoinTimedOut(self._live.record.id, ", ".join(missing), self._join_timeout_s)
            self._give_up(missing, error)

    def _look_for_standstill(self) -> None:
        record = self._live.record
        still = self._standstill.look(record)
        for host in [host for host, seconds in still.items() if seconds > self._stall_abort_s]:
            disks = ", ".join(stuck_disks(record, host)[:DISKS_NAMED])
            self._give_up([host], TransferStalled(record.id, host, self._stall_abort_s, disks))
        slow = [
            host for host, seconds in still.items() if self._stall_abort_s >= seconds > self._stall_alarm_s
        ]
        self._live.raise_alarm(self._alarm(sorted(slow)) if slow else None)

    def _alarm(self, hosts: list[str]) -> str:
        limits = f"{self._stall_alarm_s:g} seconds, and is given up after {self._stall_abort_s:g}"
        disks = ", ".join(stuck_disks(self._live.record, hosts[0])[:DISKS_NAMED])
        return f"no progress of {', '.join(hosts)} for {limits}; look at {hosts[0]}, which still has {disks}"

    def _listen_to(self, participant: Participant) -> None:
        limit = self._live.attendance.limit_s(self._live.record.state)
        if participant.state in NEEDED and self._live.attendance.silence_s(participant.host) > limit:
            error = ParticipantSilent(self._live.record.id, participant.host, limit, participant.state)
            self._give_up([participant.host], error)

    def _give_up(self, hosts: list[str], error: SessionAborted) -> None:
        for host in hosts:
            self._live.fail(host, error.cause)
        if self._live.record.policy is Policy.ALL:
            raise error
