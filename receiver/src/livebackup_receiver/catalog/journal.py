# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes sessions to the catalog behind the coordinator's back.

While VMs stand still nobody may wait for a disk, so a change of a session is noted in memory, and
one task writes the newest note of each session. Only two things wait: the opening of a session,
because its files may be removed later only if the catalog knows it, and the commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from sqlalchemy.exc import SQLAlchemyError

from livebackup_receiver import faultpoints
from livebackup_receiver.background import in_background
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.points import add_point, has_point
from livebackup_receiver.catalog.sessions import save_session
from livebackup_receiver.errors import CatalogFailed
from livebackup_receiver.model import Point, Session

log = logging.getLogger(__name__)

RETRY_S = 1.0
REST_S = 0.25
CLOSE_S = 10.0
# A database may be restarted meanwhile; the data of the session is safe on the disk.
COMMIT_PATIENCE_S = 120.0


class Journal:
    """Belongs to one event loop; made by ``open_journal``."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._noted: dict[str, Session] = {}
        self._work = asyncio.Event()
        self._hurry = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._quiet = 0
        self._urgent = 0

    def note(self, session: Session) -> None:
        """Have the session written soon, as it will be then; returns at once."""
        self._noted[session.id] = session
        self._settled.clear()
        self._work.set()

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Write nothing while the block runs, unless someone waits for it.

        The writer's thread would take the processor from the answers that stopped VMs wait for.
        """
        self._quiet += 1
        try:
            yield
        finally:
            self._quiet -= 1
            self._work.set()

    async def settle(self) -> None:
        """Wait until every note is durable."""
        self._urgent += 1
        self._work.set()
        self._hurry.set()
        try:
            await self._settled.wait()
        finally:
            self._urgent -= 1
            if not self._urgent:
                self._hurry.clear()

    async def commit(self, session: Session, point: Point) -> None:
        """Write the commit record: the session as committed, and its point, in one transaction.

        A database may fail after it has committed. Then it is asked, until it answers, because
        taking a committed point for an aborted one would remove its layers.

        :raise CatalogFailed: the point is certainly not in the catalog
        """
        try:
            async with asyncio.timeout(COMMIT_PATIENCE_S):
                await self.settle()
        except TimeoutError:
            problem = f"it takes no notes for {COMMIT_PATIENCE_S:g} seconds"
            raise CatalogFailed(self._catalog.url, problem) from None
        try:
            await asyncio.to_thread(self._write_commit, session, point)
        except Exception as error:
            log.exception("session %s: the commit failed; asking the catalog whether it did", session.id)
            if not await self.has_point(point.id):
                raise CatalogFailed(self._catalog.url, str(error).partition("\n")[0]) from error

    async def write_notes(self) -> None:
        """Write notes for ever."""
        while True:
            await self._work.wait()
            self._work.clear()
            await self._write_all()
            await self._rest()

    async def _rest(self) -> None:
        """Let notes gather, unless someone waits for them: each write takes all disks of its sessions."""
        with suppress(TimeoutError):
            async with asyncio.timeout(REST_S):
                await self._hurry.wait()

    async def _write_all(self) -> None:
        while self._noted and (self._urgent or not self._quiet):
            batch, self._noted = self._noted, {}
            copies = [session.snapshot() for session in batch.values()]
            try:
                await asyncio.to_thread(self._write, copies)
            except Exception:
                log.exception("the catalog does not take notes; trying again")
                self._noted = batch | self._noted
                await asyncio.sleep(RETRY_S)
        if not self._noted:
            self._settled.set()

    async def has_point(self, point_id: str) -> bool:
        """Whether a point is committed; asks until the catalog answers."""
        while True:
            try:
                return await asyncio.to_thread(self._look_for, point_id)
            except SQLAlchemyError:
                log.exception(
                    "the catalog does not say whether point %s is committed; asking again", point_id
                )
                await asyncio.sleep(RETRY_S)

    def _write(self, sessions: list[Session]) -> None:
        with self._catalog.write() as db:
            for session in sessions:
                save_session(db, session)
            faultpoints.reached("receiver.note-begun")

    def _write_commit(self, session: Session, point: Point) -> None:
        with self._catalog.write() as db:
            save_session(db, session)
            add_point(db, point)
            faultpoints.reached("session.commit-begun")

    def _look_for(self, point_id: str) -> bool:
        with self._catalog.read() as db:
            return has_point(db, point_id)


@asynccontextmanager
async def open_journal(catalog: Catalog) -> AsyncIterator[Journal]:
    """A journal whose notes are written when the block ends, if the catalog takes them at all."""
    journal = Journal(catalog)
    async with in_background(journal.write_notes(), name="journal"):
        yield journal
        try:
            async with asyncio.timeout(CLOSE_S):
                await journal.settle()
        except TimeoutError:
            log.error("the catalog does not take the last notes; they are lost")
