# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads each day's share of the store in the background of a receiver, one layer at a time."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from livebackup_receiver.background import in_background
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.layer_checks import candidates
from livebackup_receiver.clock import now
from livebackup_receiver.completion import complete_in_thread
from livebackup_receiver.config import Config
from livebackup_receiver.consolidation.turns import GiveWay, Pace, open_share
from livebackup_receiver.errors import StoreFailed
from livebackup_receiver.model import Session
from livebackup_receiver.scrub.act import Scrubbed, scrub_layer
from livebackup_receiver.scrub.choice import Candidate, choose
from livebackup_receiver.scrub.finding import LayerCheck, Result
from livebackup_receiver.store.paths import Store

log = logging.getLogger(__name__)

IDLE_S = 600.0


class Scrubber:
    """Belongs to one event loop; made by ``open_scrubber``."""

    def __init__(
        self, store: Store, catalog: Catalog, config: Config, open_sessions: Callable[[], Sequence[Session]]
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._days = config.scrub_days
        self._open_sessions = open_sessions
        self._bytes_per_s = config.scrub_bytes_per_s
        self._stop = threading.Event()

    def stop(self) -> None:
        """Have the thread that reads give up soon."""
        self._stop.set()

    async def repeat(self) -> None:
        """Read what is to be read, for ever."""
        while True:
            try:
                await self._read_share()
            except Exception:
                log.exception("the scrub failed; it is tried again later")
            await asyncio.sleep(IDLE_S)

    async def _read_share(self) -> None:
        chosen = await asyncio.to_thread(self._choose)
        async with open_share(self._open_sessions) as share:
            pace = Pace(self._bytes_per_s, share, self._stop)
            with suppress(GiveWay):
                for each in chosen:
                    await self._read_one(each, pace)

    async def _read_one(self, layer: Candidate, pace: Pace) -> None:
        try:
            check = await complete_in_thread(self._read, layer, pace)
        except StoreFailed as error:
            log.error("layer %s is not read back: %s", layer.point, error)
        else:
            if check is not None:
                _tell(check)

    def _choose(self) -> list[Candidate]:
        with self._catalog.read() as db:
            return choose(candidates(db), now=now(), days=self._days)

    def _read(self, layer: Candidate, pace: Pace) -> LayerCheck | None:
        scrubbed = Scrubbed(layer.vm, layer.disk, layer.point, self._store, self._catalog)
        return scrub_layer(scrubbed, pace, now=now())


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
    async with in_background(scrubber.repeat(), name="scrub"):
        try:
            yield scrubber
        finally:
            scrubber.stop()
