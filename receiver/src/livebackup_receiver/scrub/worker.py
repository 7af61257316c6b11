# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads each day's share of the store in the background of a receiver, one layer at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.layer_checks import candidates
from livebackup_receiver.clock import now
from livebackup_receiver.completion import complete_in_thread
from livebackup_receiver.config import Config
from livebackup_receiver.consolidation.turns import GiveWay, Pace, share_of
from livebackup_receiver.errors import StoreFailed
from livebackup_receiver.model import Session
from livebackup_receiver.scrub.act import Scrubbed, scrub_layer
from livebackup_receiver.scrub.choice import Candidate, choose
from livebackup_receiver.scrub.finding import LayerCheck, Result
from livebackup_receiver.store.paths import Store

log = logging.getLogger(__name__)

IDLE_S = 600.0
WATCH_S = 0.05


class Scrubber:
    """Belongs to one event loop; made by ``open_scrubber``."""

    def __init__(
        self, store: Store, catalog: Catalog, config: Config, open_sessions: Callable[[], Sequence[Session]]
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._days = config.scrub_days
        self._open_sessions = open_sessions
        self._share = 1.0
        self._pace = Pace(config.scrub_bytes_per_s, lambda: self._share)

    def stop(self) -> None:
        """Have the thread that reads give up soon."""
        self._pace.stop.set()

    async def repeat(self) -> None:
        """Read what is to be read, for ever."""
        while True:
            try:
                await self._read_share()
            except Exception:
                log.exception("the scrub failed; it is tried again later")
            await asyncio.sleep(IDLE_S)

    async def _read_share(self) -> None:
        for each in await asyncio.to_thread(self._choose):
            watch = asyncio.create_task(self._watch())
            try:
                check = await complete_in_thread(self._read, each)
            except GiveWay:
                return
            except StoreFailed as error:
                log.error("layer %s is not read back: %s", each.point, error)
                continue
            finally:
                watch.cancel()
            if check is not None:
                _tell(check)

    def _choose(self) -> list[Candidate]:
        with self._catalog.read() as db:
            return choose(candidates(db), now=now(), days=self._days)

    def _read(self, layer: Candidate) -> LayerCheck | None:
        scrubbed = Scrubbed(layer.vm, layer.disk, layer.point, self._store, self._catalog)
        return scrub_layer(scrubbed, self._pace, now=now())

    async def _watch(self) -> None:
        # threads must not look at sessions themselves
        while True:
            self._share = share_of(session.state for session in self._open_sessions())
            await asyncio.sleep(WATCH_S)


def _tell(check: LayerCheck) -> None:
    where = f"layer {check.point} of disk {check.disk} of VM {check.vm}"
    if check.result is Result.GOOD:
        log.info("%s was read back and is good", where)
    else:
        log.error("%s is %s: %s", where, check.result, check.problem)


@asynccontextmanager
async def open_scrubber(
    store: Store, catalog: Catalog, config: Config, open_sessions: Callable[[], Sequence[Session]]
) -> AsyncIterator[Scrubber]:
    """A scrubber that reads until the block ends."""
    scrubber = Scrubber(store, catalog, config, open_sessions)
    task = asyncio.create_task(scrubber.repeat(), name="scrub")
    try:
        yield scrubber
    finally:
        scrubber.stop()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
