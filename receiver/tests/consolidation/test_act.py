# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Points are dropped, and their space comes back, on real layers; kills at every boundary."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest
from forked import killed_at
from overlapping_points import DB, five_points
from random_chains import is_clean
from reading_back import drop
from sample_store import KIB, SampleStore, Write, read_image

from livebackup_receiver import faultpoints
from livebackup_receiver.catalog.chains import layers_of_disks
from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.catalog.points import disk_chain, list_points
from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.config import Config
from livebackup_receiver.consolidation.act import Disk
from livebackup_receiver.consolidation.plan import Abilities, LayerFacts
from livebackup_receiver.consolidation.recovery import forget_gone, recover_merges
from livebackup_receiver.consolidation.worker import Consolidation
from livebackup_receiver.decisions import recover_marks
from livebackup_receiver.errors import LayerDamaged, LayerInUse
from livebackup_receiver.model import Point
from livebackup_receiver.restore import layers_held
from livebackup_receiver.store.ancestry import ancestry
from livebackup_receiver.store.digests import read_chain, root_of
from livebackup_receiver.store.marks import read_marks
from livebackup_receiver.store.paths import Store

COPYING = Abilities(shares=False, punches=True)
MERGES = [point for point, when in faultpoints.POINTS.items() if when == faultpoints.MERGE]


def consolidation(store: SampleStore) -> Consolidation:
    return Consolidation(Store(store.root), store.catalog, COPYING, max_depth=2)


def consolidate(
    store: SampleStore,
    catalog: Catalog | None = None,
    *,
    max_depth: int = 2,
    abilities: Abilities | None = COPYING,
) -> Consolidation:
    work = Consolidation(Store(store.root), catalog or store.catalog, abilities, max_depth=max_depth)
    for disk in work.waiting():
        work.consolidate(disk, at_once)
    return work


def require_right(store: SampleStore, kept: list[Point], content: dict[str, bytes], scratch: Path) -> None:
    """Every kept point reads as it did, is sound, and has the digest that it was made with."""
    directory = Store(store.root).disk(*DB)
    for point in kept:
        layer = store.layer(point)
        assert is_clean(layer)
        assert read_image(layer, "qcow2", scratch) == content[point.id]
        tables = read_chain([directory.digests(each) for each in ancestry(directory, point.id)])
        assert root_of(tables) == point.vms[0].disks[0].root
        with store.catalog.read() as db:
            chain = disk_chain(db, point=point.id, vm="db", disk="vd-a")
        assert [each.point for each in chain[::-1]] == ancestry(directory, point.id)
        assert all((store.root / each.layer).is_file() for each in chain)


def test_a_dropped_point_is_gone_at_once_and_the_others_stay(store: SampleStore, tmp_path: Path) -> None:
    points, content = five_points(store)
    drop(store, points[1], points[2])
    with store.catalog.read() as db:
        assert [point.id for point in list_points(db)] == [points[number].id for number in (4, 3, 0)]
    require_right(store, [points[0], points[3], points[4]], content, tmp_path)


def test_space_comes_back_without_moving_data(store: SampleStore, tmp_path: Path) -> None:
    points, content = five_points(store)
    layers = [store.layer(point) for point in points]
    before = sum(layer.stat().st_blocks for layer in layers)
    drop(store, points[0], points[1], points[2])
    work = consolidate(store, max_depth=50)
    assert work.moved_bytes == 0
    # 192 KiB of each were written over by the next, but for 128 KiB, and 64 KiB at 3 MiB
    assert before - sum(layer.stat().st_blocks for layer in layers) == 3 * 2 * 64 * KIB // 512
    require_right(store, points[3:], content, tmp_path)


def test_merging_shortens_the_chain(store: SampleStore, tmp_path: Path) -> None:
    points, content = five_points(store)
    drop(store, *points[:4])
    consolidate(store, max_depth=1)
    require_right(store, points[4:], content, tmp_path)
    assert sorted(path.name for path in store.layer(points[4]).parent.iterdir()) == [
        f"{points[4].id}.{suffix}" for suffix in ("digests", "json", "qcow2")
    ]
    assert list((store.root / "points").iterdir()) == []


def test_the_last_point_of_a_vm_goes_with_all_its_files(store: SampleStore) -> None:
    point = store.add({DB: [Write(0, KIB, 1)], ("web", "vd-a"): [Write(0, KIB, 1)]})
    drop(store, point)
    consolidate(store)
    assert [path for path in (store.root / "vms").rglob("*") if path.is_file()] == []


def test_a_reader_of_a_dropped_point_sees_it_to_the_end(store: SampleStore, tmp_path: Path) -> None:
    points, content = five_points(store)
    layers = [store.layer(point) for point in points[2::-1]]
    with layers_held(layers):
        drop(store, points[1], points[2])
        for disk in consolidation(store).waiting():
            with pytest.raises(LayerInUse):
                consolidation(store).consolidate(disk, at_once)
        assert read_image(layers[0], "qcow2", tmp_path) == content[points[2].id]
    consolidate(store)
    require_right(store, [points[0], *points[3:]], content, tmp_path)


def test_a_process_that_has_the_chain_open_reads_on(store: SampleStore, tmp_path: Path) -> None:
    """Somebody reads a layer with QEMU alone: nothing is freed that its tables still point at."""
    points, content = five_points(store)
    reader = subprocess.Popen(
        ["qemu-io", "-r", "-f", "qcow2", str(store.layer(points[4]))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdin
    assert reader.stdout
    reader.stdin.write("read -P 5 512k 64k\n")
    reader.stdin.flush()
    assert "read 65536" in reader.stdout.readline() + reader.stdout.readline()
    drop(store, *points[:4])
    with pytest.raises(LayerInUse):
        consolidate(store, max_depth=1)
    answers = reader.communicate("read -P 1 0 64k\nread -P 2 128k 64k\nread -P 54 3M 64k\nquit\n", 30)[0]
    assert answers.count("read 65536") == 3
    assert "failed" not in answers
    consolidate(store, max_depth=1)
    require_right(store, points[4:], content, tmp_path)


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("point", MERGES)
def test_a_kill_at_any_boundary_of_a_merge_loses_nothing(
    config: Config, store: SampleStore, tmp_path: Path, point: str, shares: bool
) -> None:
    points, content = five_points(store)
    drop(store, points[0], points[2])

    def merge_all() -> None:
        # Where extents cannot be shared they are copied; what matters here is the way a merge goes.
        abilities = Abilities(shares=shares, punches=True)
        with open_catalog(config.database_url) as catalog:
            consolidate(store, catalog, max_depth=1, abilities=abilities)

    times = 0
    while killed_at(point, times + 1, merge_all, tmp_path):
        times += 1
        require_right_after_restart(store, [points[1], *points[3:]], content, tmp_path)
        if times > 3:
            break
    only_one_way = {"chain.appended", "chain.flipped"} if shares else {"chain.merged"}
    assert times or point in only_one_way
    consolidate(store, max_depth=1)
    require_right(store, [points[1], *points[3:]], content, tmp_path)
    files = {path.suffix for path in store.layer(points[4]).parent.iterdir()}
    assert files == {".digests", ".json", ".qcow2"}
    assert read_marks(Store(store.root)) == []


def require_right_after_restart(
    store: SampleStore, kept: list[Point], content: dict[str, bytes], scratch: Path
) -> None:
    """Before and after the recovery each point reads right; after it catalog and manifests agree, too."""
    for point in kept:
        assert read_image(store.layer(point), "qcow2", scratch) == content[point.id]
    recover_marks(store.catalog, Store(store.root))
    recover_merges(store.catalog, Store(store.root))
    forget_gone(store.catalog, Store(store.root))
    require_right(store, kept, content, scratch)


def test_a_merge_that_ran_out_of_room_leaves_everything_as_it_was(
    store: SampleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, content = five_points(store)
    drop(store, points[1])

    def full(*args: object) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("livebackup_receiver.chain.copying.os.copy_file_range", full)
    with pytest.raises(OSError, match="No space left"):
        consolidate(store, max_depth=1)
    monkeypatch.undo()
    kept = [points[0], *points[2:]]
    require_right(store, kept, content, tmp_path)
    consolidate(store, max_depth=1)
    require_right(store, kept, content, tmp_path)


def test_a_damaged_layer_is_not_merged(store: SampleStore) -> None:
    points, dummy = five_points(store)
    drop(store, points[1])
    with store.layer(points[1]).open("r+b") as file:
        file.seek(40)
        file.write(b"\xff" * 8)
    work = consolidation(store)
    before = store.layer(points[2]).read_bytes()
    with pytest.raises(LayerDamaged, match=f"{points[1].id}.qcow2 is damaged"):
        work.consolidate(Disk(*DB, Store(store.root), store.catalog), at_once)
    assert store.layer(points[2]).read_bytes() == before


def test_facts_of_layers_come_from_the_catalog(store: SampleStore) -> None:
    points, dummy = five_points(store)
    drop(store, points[0])
    with store.catalog.read() as db:
        found = layers_of_disks(db)[DB]
    assert found[0] == LayerFacts(points[0].id, None, True, points[0].vms[0].disks[0].stored_bytes)
    assert [each.parent for each in found[1:]] == [point.id for point in points[:4]]


def test_the_catalog_knows_what_a_layer_takes_after_all(store: SampleStore) -> None:
    points, dummy = five_points(store)
    drop(store, points[1])
    consolidate(store, max_depth=4)
    with store.catalog.read() as db:
        found = {each.point: each.stored_bytes for each in layers_of_disks(db)[DB]}
    for point in (points[0], *points[2:]):
        assert found[point.id] == store.layer(point).stat().st_blocks * 512


def test_without_holes_merging_works_and_room_comes_back_later(
    store: SampleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, content = five_points(store)
    drop(store, points[1])

    def unsupported(*args: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr("livebackup_receiver.chain.holes.punch", unsupported)
    consolidate(store, max_depth=4, abilities=None)
    assert not store.layer(points[1]).exists()
    require_right(store, [points[0], *points[2:]], content, tmp_path)
