# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading layers of a sample store back, and what changes them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sample_store import SampleStore

from livebackup_receiver.catalog.layer_checks import list_checks
from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.consolidation.plan import Abilities
from livebackup_receiver.consolidation.worker import Consolidation
from livebackup_receiver.decisions import drop_points
from livebackup_receiver.model import Point
from livebackup_receiver.scrub.act import Scrubbed, scrub_layer
from livebackup_receiver.scrub.finding import LayerCheck
from livebackup_receiver.store.paths import Store

DB = ("db", "vd-a")
NOW = datetime(2026, 3, 2, tzinfo=UTC)


def scrub(store: SampleStore, point: Point, pace: Callable[[int], None] = at_once) -> LayerCheck | None:
    return scrub_layer(Scrubbed(*DB, point.id, Store(store.root), store.catalog), pace, now=NOW)


def found(store: SampleStore, point: Point) -> LayerCheck:
    check = scrub(store, point)
    assert check is not None
    assert checks(store)[point.id] == check
    return check


def checks(store: SampleStore) -> dict[str, LayerCheck]:
    with store.catalog.read() as db:
        return {check.point: check for check in list_checks(db)}


def drop(store: SampleStore, *points: Point) -> None:
    drop_points(store.catalog, Store(store.root), [point.id for point in points], now=NOW)


def consolidate(store: SampleStore, *, shares: bool = False, max_depth: int = 50) -> None:
    abilities = Abilities(shares=shares, punches=True)
    work = Consolidation(Store(store.root), store.catalog, abilities, max_depth=max_depth)
    for disk in work.waiting():
        work.consolidate(disk, at_once)


def l2_entry(layer: Path, cluster: int) -> int:
    """Where in the file the L2 entry of a cluster is, by the header (docs/interop/qcow2.txt)."""
    content = layer.read_bytes()
    l1 = int.from_bytes(content[40:48], "big")
    return (int.from_bytes(content[l1 : l1 + 8], "big") & 0x00FFFFFFFFFFFE00) + 8 * cluster
