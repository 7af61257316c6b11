# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers that the receiver does not take apart itself are merged by QEMU."""

from __future__ import annotations

from pathlib import Path

from forked import killed_at
from overlapping_points import DB, extend, five_points
from reading_back import drop
from sample_store import SampleStore, read_image

from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.config import Config
from livebackup_receiver.consolidation.plan import Abilities
from livebackup_receiver.consolidation.recovery import recover_merges
from livebackup_receiver.consolidation.worker import Consolidation
from livebackup_receiver.store.paths import Store


def merge_all(store: SampleStore, catalog: Catalog) -> None:
    work = Consolidation(Store(store.root), catalog, Abilities(False, False), max_depth=4)
    for disk in work.waiting():
        work.consolidate(disk, at_once)


def test_layers_of_another_kind_are_merged_by_qemu(store: SampleStore, tmp_path: Path) -> None:
    points, content = five_points(store)
    extend(store.layer(points[1]), store.layer(points[0]))
    drop(store, points[1])
    merge_all(store, store.catalog)
    for point in (points[0], *points[2:]):
        assert read_image(store.layer(point), "qcow2", tmp_path) == content[point.id]
    assert not store.layer(points[1]).exists()


def test_a_kill_while_qemu_merges_is_recovered_from(
    config: Config, store: SampleStore, tmp_path: Path
) -> None:
    """The merged layer is of a kind that is not understood, and still says whose child it is."""
    points, content = five_points(store)
    extend(store.layer(points[2]), store.layer(points[1]))
    drop(store, points[1])

    def merge() -> None:
        with open_catalog(config.database_url) as catalog:
            merge_all(store, catalog)

    assert killed_at("chain.layer-replaced", 1, merge, tmp_path)
    recover_merges(store.catalog, Store(store.root))
    assert Store(store.root).disk(*DB).intents() == []
    assert not store.layer(points[1]).exists()
    for point in (points[0], *points[2:]):
        assert read_image(store.layer(point), "qcow2", tmp_path) == content[point.id]
