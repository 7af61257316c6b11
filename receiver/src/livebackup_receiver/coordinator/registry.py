# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sessions that run now, in front of those that the catalog remembers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from livebackup_receiver import faultpoints
from livebackup_receiver.catalog.points import disk_points, newest_point_id
from livebackup_receiver.catalog.sessions import list_sessions, load_session, newest_id
from livebackup_receiver.clock import now
from livebackup_receiver.coordinator.actors import Actor, actors_of
from livebackup_receiver.coordinator.conduct import Stage, conduct
from livebackup_receiver.coordinator.ended import take_late_step
from livebackup_receiver.coordinator.opening import Opening, session_of
from livebackup_receiver.coordinator.orders import Answer
from livebackup_receiver.coordinator.reconcile import SeenBitmaps, SeenVm, Verdict, VmVerdict, judge_disk
from livebackup_receiver.coordinator.reports import AnyStep
from livebackup_receiver.coordinator.session import LiveSession
from livebackup_receiver.coordinator.watch import Watch
from livebackup_receiver.errors import (
    AbortRequested,
    CatalogFailed,
    GroupBusy,
    NotReady,
    SessionCommitted,
    SessionInterrupted,
)
from livebackup_receiver.events import Feed
from livebackup_receiver.ids import next_id
from livebackup_receiver.model import Session, SessionState
from livebackup_receiver.store import room
from livebackup_receiver.store.format import require_present

log = logging.getLogger(__name__)

OPENING_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 30.0


class LiveSessions:
    """Opens, finds and ends sessions; belongs to one event loop; made by ``open_sessions``."""

    def __init__(self, stage: Stage, feed: Feed, *, newest: str | None) -> None:
        """:param newest: the greatest id that any session or point has"""
        self._stage = stage
        self._feed = feed
        self._newest = newest
        self._live: dict[str, LiveSession] = {}
        self._conductors: dict[str, asyncio.Task[None]] = {}
        self._stopping = False

    async def open(self, opening: Opening) -> Session:
        """Open a session; it is in the catalog when this returns.

        :raise GroupBusy: the group has an open session
        :raise StoreFailed: the store is not there
        :raise StoreFull: the store has less room than its reserve
        :raise NotReady: the receiver is stopping
        :raise CatalogFailed: the catalog does not take it
        """
        self._require_free(opening.group)
        self._newest = next_id(self._newest)
        record = session_of(opening, self._newest, now=now())
        live = self._enlist(record, opening)
        async with live.changed:
            live.announce(entered=True)
        await self._require_durable(live)
        faultpoints.reached("session.opened")
        return live.record

    def find(self, session_id: str) -> LiveSession | None:
        """The session, if it runs or is still being cleared up."""
        return self._live.get(session_id)

    def every(self) -> list[Session]:
        """The sessions that have not ended, newest first."""
        records = self._records()
        return [records[each] for each in sorted(records, reverse=True) if not records[each].state.ended]

    async def get(self, session_id: str) -> Session:
        """A session, running or ended.

        :raise SessionUnknown: there is none
        """
        if live := self.find(session_id):
            return live.record
        return await asyncio.to_thread(self._load, session_id)

    async def actors(self, session_id: str) -> list[Actor]:
        """What every actor of a session last said.

        :raise SessionUnknown: there is none
        """
        live = self.find(session_id)
        return live.actors() if live else actors_of(await self.get(session_id), None)

    async def list(
        self, *, group: str | None = None, ended: bool | None = None, limit: int = 50
    ) -> list[Session]:
        """Sessions, newest first; of one group, and only ended or open ones, if asked."""
        live = self._records()
        known = {each.id: each for each in await asyncio.to_thread(self._load_list, group, limit + len(live))}
        # What ends while the catalog is read is newer in memory.
        known |= {each.id: each for each in (live | self._records()).values() if group in (None, each.group)}
        chosen = [
            known[each] for each in sorted(known, reverse=True) if ended in (None, known[each].state.ended)
        ]
        return chosen[:limit]

    async def abort(self, session_id: str, reason: str) -> Session:
        """Abort a session; its files are gone when this returns.

        :raise SessionUnknown: there is none
        :raise SessionCommitted: it is committed, or being committed
        """
        if live := self.find(session_id):
            live.interrupt(AbortRequested(session_id, reason))
            await asyncio.wait({self._conductors[session_id]})
        session = await self.get(session_id)
        if session.state is SessionState.COMMITTED:
            raise SessionCommitted(session_id)
        return session

    async def take_step(self, session_id: str, host: str, step: AnyStep) -> Answer:
        """Answer a participant's step, in a session that runs or has ended.

        :raise ReceiverError: the step is refused
        """
        if live := self.find(session_id):
            return await live.take_step(host, step, holder_of=lambda vm: self._holder_of(vm, session_id))
        return await asyncio.to_thread(take_late_step, self._stage.catalog, session_id, host, step)

    async def reconcile(self, seen: SeenBitmaps) -> Verdict:
        """Which checkpoint bitmaps a host keeps and which it removes."""
        running = frozenset(each.id for each in self.every())
        verdict = await asyncio.to_thread(self._judge, seen, running)
        faultpoints.reached("receiver.judged")
        return verdict

    async def stop(self) -> None:
        """Abort every session and wait until nothing of them is left."""
        self._stopping = True
        for live in self._live.values():
            live.interrupt(SessionInterrupted(live.record.id))
        if self._conductors:
            dummy, stuck = await asyncio.wait(list(self._conductors.values()), timeout=STOP_TIMEOUT_S)
            for conductor in stuck:
                log.error("session %s does not end; the next start will abort it", conductor.get_name())

    def _records(self) -> dict[str, Session]:
        return {session_id: live.record for session_id, live in self._live.items()}

    def _require_free(self, group: str) -> None:
        if self._stopping:
            raise NotReady("stopping")
        for record in self.every():
            if record.group == group:
                raise GroupBusy(group, record.id)
        require_present(self._stage.store)
        root, reserve = self._stage.store.root, self._stage.config.min_free_bytes
        room.require_room(root, free=room.free_bytes(root), reserve=reserve)

    async def _require_durable(self, live: LiveSession) -> None:
        try:
            async with asyncio.timeout(OPENING_TIMEOUT_S):
                await self._stage.journal.settle()
        except TimeoutError:
            problem = f"the opening of a session is not written after {OPENING_TIMEOUT_S:g} seconds"
            error = CatalogFailed(self._stage.catalog.url, problem)
            live.interrupt(error)
            raise error from None

    def _enlist(self, record: Session, opening: Opening) -> LiveSession:
        config = self._stage.config
        live = LiveSession(
            record,
            stop_budget_s=opening.stop_budget_s,
            speed_limit=opening.speed_limit,
            silence_s=config.silence_s,
            journal=self._stage.journal,
            feed=self._feed,
        )
        watch = Watch(
            live,
            store=config.store,
            reserve_bytes=config.min_free_bytes,
            join_timeout_s=opening.join_timeout_s or config.join_timeout_s,
            stall_alarm_s=config.stall_alarm_s,
            stall_abort_s=config.stall_abort_s,
            others=self.every,
        )
        self._live[record.id] = live
        self._conductors[record.id] = asyncio.create_task(self._conduct(live, watch), name=record.id)
        return live

    async def _conduct(self, live: LiveSession, watch: Watch) -> None:
        try:
            await conduct(live, self._stage, watch)
        except Exception:
            log.exception("session %s is not cleared up until the next start", live.record.id)
        finally:
            del self._live[live.record.id], self._conductors[live.record.id]

    def _holder_of(self, vm: str, session_id: str) -> str | None:
        """Who has a VM in use: another session, or another host in this one."""
        for record in self.every():
            for host, reports in self._live[record.id].reports.items():
                if vm in {report.vm for report in reports}:
                    return f"host {host}" if record.id == session_id else f"session {record.id}"
        return None

    def _judge(self, seen: SeenBitmaps, running: frozenset[str]) -> Verdict:
        return Verdict(vms=[self._judge_vm(vm, running) for vm in seen.vms])

    def _judge_vm(self, vm: SeenVm, running: frozenset[str]) -> VmVerdict:
        with self._stage.catalog.read() as db:
            committed = {
                disk.disk: {each.point for each in disk_points(db, vm.vm, disk.disk) if not each.dropped}
                for disk in vm.disks
            }
        verdicts = [
            judge_disk(each, committed=committed[each.disk], open_sessions=running) for each in vm.disks
        ]
        return VmVerdict(vm=vm.vm, disks=verdicts)

    def _load(self, session_id: str) -> Session:
        with self._stage.catalog.read() as db:
            return load_session(db, session_id)

    def _load_list(self, group: str | None, limit: int) -> Sequence[Session]:
        with self._stage.catalog.read() as db:
            return list_sessions(db, group=group, limit=limit)


@asynccontextmanager
async def open_sessions(stage: Stage, feed: Feed) -> AsyncIterator[LiveSessions]:
    """The running sessions; all are aborted when the block ends."""
    with stage.catalog.read() as db:
        newest = max(filter(None, (newest_id(db), newest_point_id(db))), default=None)
    sessions = LiveSessions(stage, feed, newest=newest)
    try:
        yield sessions
    finally:
        await sessions.stop()
