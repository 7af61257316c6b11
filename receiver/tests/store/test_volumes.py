# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks on several file systems."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sample_store import KIB, SampleStore, Write, read_image

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.consolidation.worker import Consolidation
from livebackup_receiver.decisions import drop_points
from livebackup_receiver.errors import StoreFailed
from livebackup_receiver.store.paths import Store
from livebackup_receiver.store.volumes import assign, home_of, homes_of, make_home

A, B = Path("/a"), Path("/b")
DB, WEB, APP = ("db", "vd-a"), ("web", "vd-a"), ("app", "vd-a")


def test_a_new_disk_goes_where_the_most_room_is() -> None:
    assert assign({DB: 10}, {}, {A: 100, B: 200}) == {DB: B}


def test_the_disks_of_one_session_share_the_room() -> None:
    assert assign({DB: 120, WEB: 90, APP: 1}, {}, {A: 150, B: 200}) == {DB: B, WEB: A, APP: B}


def test_a_disk_stays_where_its_layers_are() -> None:
    assert assign({DB: 10, WEB: 10}, {DB: A}, {A: 1, B: 200}) == {DB: A, WEB: B}


def test_a_home_is_found_again(tmp_path: Path) -> None:
    store, volume = Store(tmp_path / "store"), tmp_path / "volume"
    volume.mkdir()
    make_home(store, DB, volume)
    make_home(store, WEB, store.root)
    assert home_of(store, [volume], DB) == volume
    assert home_of(store, [volume], WEB) == store.root
    assert home_of(store, [volume], APP) is None
    assert [disk[:2] for disk in store.disks()] == [DB, WEB]


def test_a_volume_that_is_gone_is_named(tmp_path: Path) -> None:
    store, volume = Store(tmp_path / "store"), tmp_path / "volume"
    volume.mkdir()
    make_home(store, DB, volume)
    volume.rename(tmp_path / "unmounted")
    (store.root / ".lock").touch()
    with pytest.raises(StoreFailed, match=r"volume/vms/db/vd-a, which is not there"):
        homes_of(store, [], {DB: 1})
    with pytest.raises(StoreFailed, match=f"the store {volume} cannot be used: it is not there any more"):
        homes_of(store, [volume], {DB: 1})


def test_chains_on_a_volume_are_consolidated_and_need_nothing_else(catalog: Catalog, tmp_path: Path) -> None:
    store, volume = Store(tmp_path / "store"), tmp_path / "volume"
    volume.mkdir()
    make_home(store, DB, volume)
    sample = SampleStore(store.root, catalog)
    points = [sample.add({DB: [Write(number * 64 * KIB, 128 * KIB, number + 1)]}) for number in range(3)]
    drop_points(catalog, store, [points[1].id], now=datetime.now(UTC))
    work = Consolidation(store, catalog, None, max_depth=2)
    for disk in work.waiting():
        work.consolidate(disk, at_once)
    layer = volume / "vms" / "db" / "vd-a" / f"{points[2].id}.qcow2"
    assert read_image(layer, "qcow2", tmp_path) == sample.content[DB]
    chain = ["qemu-img", "info", "--backing-chain", "--output=human", str(layer)]
    shown = subprocess.run(chain, check=True, capture_output=True, text=True).stdout
    assert shown.count("image: ") == 2
