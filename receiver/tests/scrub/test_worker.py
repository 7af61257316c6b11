# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scrub in the background of a receiver."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest
from damaging import CLUSTER, flip
from sample_store import SampleStore, Write
from waiting import until

from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.catalog.layer_checks import list_checks
from livebackup_receiver.config import Config
from livebackup_receiver.consolidation.turns import share_of
from livebackup_receiver.daemon import open_receiver
from livebackup_receiver.model import Point, SessionState
from livebackup_receiver.scrub.finding import LayerCheck, Result

A, B = ("db", "vd-a"), ("db", "vd-b")


@pytest.fixture
def point(store: SampleStore) -> Point:
    """A week old; its first disk is larger than a day's share."""
    week_ago = datetime.now(UTC) - timedelta(days=7)
    return store.add({A: [Write(0, 32 * CLUSTER, 1)], B: [Write(0, CLUSTER, 1)]}, cut_at=week_ago)


def checks(catalog: Catalog) -> list[LayerCheck]:
    with catalog.read() as db:
        return list_checks(db)


async def test_a_share_of_the_store_is_read(config: Config, store: SampleStore, point: Point) -> None:
    flip(store.layer(point), CLUSTER)
    async with open_receiver(config) as receiver:

        async def look() -> list[LayerCheck]:
            return checks(receiver.catalog)

        (check,) = await until(look)
        assert (check.vm, check.disk, check.result) == ("db", "vd-a", Result.DAMAGED)
        (told,) = (each for each in await receiver.checks.run() if each.name == "scrub")
    assert told.state == "failed"
    assert len(checks(store.catalog)) == 1


async def test_nothing_is_read_if_nobody_wants_it(config: Config, store: SampleStore, point: Point) -> None:
    async with open_receiver(config.model_copy(update={"scrub_days": 0.0})):
        await asyncio.sleep(0.5)
    assert checks(store.catalog) == []


async def test_it_ends_with_the_receiver_whatever_it_reads(
    config: Config, store: SampleStore, point: Point
) -> None:
    async with open_receiver(config.model_copy(update={"scrub_bytes_per_s": 1})):
        await asyncio.sleep(0.5)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert checks(store.catalog) == []
    with open_catalog(config.database_url):
        pass


@pytest.mark.parametrize(
    ("states", "share"),
    [
        ([], 1.0),
        ([SessionState.TRANSFERRING], 0.1),
        ([SessionState.TRANSFERRING, SessionState.STOPPING], 0.0),
        ([SessionState.CUTTING], 0.0),
    ],
)
def test_sessions_come_first(states: list[SessionState], share: float) -> None:
    assert share_of(states) == share
