# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers of a real store are read back, after something has happened to them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from damaging import CLUSTER, bad_sector, flip, flip_in_file, place_of
from forked import killed_at
from sample_store import SampleStore, Write, run

from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.catalog.layer_checks import list_checks
from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.config import Config
from livebackup_receiver.consolidation.plan import Abilities
from livebackup_receiver.consolidation.recovery import recover_merges
from livebackup_receiver.consolidation.turns import GiveWay, Pace
from livebackup_receiver.consolidation.worker import Consolidation
from livebackup_receiver.decisions import drop_points
from livebackup_receiver.model import Point
from livebackup_receiver.scrub.act import Scrubbed, scrub_layer
from livebackup_receiver.scrub.finding import LayerCheck, Result
from livebackup_receiver.store import access
from livebackup_receiver.store.paths import Store

DB = ("db", "vd-a")
NOW = datetime(2026, 3, 2, tzinfo=UTC)
GOOD, DAMAGED, UNREADABLE = Result.GOOD, Result.DAMAGED, Result.UNREADABLE


@pytest.fixture
def store(config: Config, catalog: Catalog) -> SampleStore:
    return SampleStore(config.store, catalog)


@pytest.fixture
def points(store: SampleStore) -> list[Point]:
    """A chain of three; the second masks the parent's clusters 1 and 2, the third cluster 8."""
    return [
        store.add({DB: [Write(0, 16 * CLUSTER, 1)]}),
        store.add({DB: [Write(CLUSTER, 2 * CLUSTER, 2)]}),
        store.add({DB: [Write(8 * CLUSTER, CLUSTER, 3), Write(40 * CLUSTER, CLUSTER, 4)]}),
    ]


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


def test_what_is_as_it_was_is_good(store: SampleStore, points: list[Point]) -> None:
    for point in points:
        check = found(store, point)
        assert (check.result, check.problem, check.ranges, check.checked_at) == (GOOD, None, [], NOW)


def test_a_flipped_bit_is_found_where_it_is(store: SampleStore, points: list[Point]) -> None:
    flip(store.layer(points[0]), 5 * CLUSTER + 77)
    flip(store.layer(points[0]), 6 * CLUSTER)
    flip(store.layer(points[0]), 9 * CLUSTER)
    check = found(store, points[0])
    assert check.result is DAMAGED
    assert check.problem == "its bytes do not match their digests"
    assert check.ranges == [(5 * CLUSTER, 2 * CLUSTER), (9 * CLUSTER, CLUSTER)]
    assert found(store, points[1]).result is GOOD


def test_a_sector_that_cannot_be_read_is_said_to_be_that(store: SampleStore, points: list[Point]) -> None:
    layer = store.layer(points[0])
    with bad_sector(layer, place_of(layer, 7 * CLUSTER + 4096)):
        check = found(store, points[0])
    assert (check.result, check.problem) == (UNREADABLE, "Input/output error")
    assert check.ranges == [(7 * CLUSTER, CLUSTER)]
    assert found(store, points[0]).result is GOOD


def test_what_is_damaged_beside_an_unreadable_sector_is_damaged(
    store: SampleStore, points: list[Point]
) -> None:
    layer = store.layer(points[0])
    flip(layer, 3 * CLUSTER)
    with bad_sector(layer, place_of(layer, 7 * CLUSTER)):
        check = found(store, points[0])
    assert check.result is DAMAGED
    assert check.ranges == [(3 * CLUSTER, CLUSTER), (7 * CLUSTER, CLUSTER)]


@pytest.mark.parametrize(("suffix", "kind"), [(".digests", "digest table"), (".json", "manifest")])
def test_without_what_it_is_held_against_nobody_can_say(
    store: SampleStore, points: list[Point], suffix: str, kind: str
) -> None:
    path = store.layer(points[1]).with_suffix(suffix)
    path.unlink()
    check = found(store, points[1])
    assert (check.result, check.ranges) == (UNREADABLE, [])
    assert check.problem == f"the {kind} {path} cannot be " + (
        "used: No such file or directory" if suffix == ".digests" else "read: No such file or directory"
    )


def test_a_missing_layer_could_not_be_read(store: SampleStore, points: list[Point]) -> None:
    store.layer(points[1]).unlink()
    check = found(store, points[1])
    assert (check.result, check.problem, check.useless) == (UNREADABLE, "it is missing", False)


@pytest.mark.parametrize(
    ("place", "bit", "problem"),
    [
        (0, 0, "it is no qcow2 image"),
        (39, 0, "its L1 table does not fit its size"),
        (29, 0, "it is of 4259840 bytes, and its manifest says 4194304"),
    ],
)
def test_a_damaged_header_makes_a_layer_useless(
    store: SampleStore, points: list[Point], place: int, bit: int, problem: str
) -> None:
    flip_in_file(store.layer(points[0]), place, bit)
    check = found(store, points[0])
    assert (check.result, check.problem, check.useless) == (DAMAGED, problem, True)


def test_a_layer_on_another_parent_than_it_should_have_is_useless(
    store: SampleStore, points: list[Point]
) -> None:
    run(
        "qemu-img",
        "rebase",
        "-u",
        "-b",
        store.layer(points[0]).name,
        "-F",
        "qcow2",
        str(store.layer(points[2])),
    )
    check = found(store, points[2])
    assert check.useless
    assert check.problem == f"it lies on {points[0].id}.qcow2, and its manifest says {points[1].id}.qcow2"


def l2_entry(layer: Path, cluster: int) -> int:
    """Where in the file the L2 entry of a cluster is, by the header (docs/interop/qcow2.txt)."""
    content = layer.read_bytes()
    l1 = int.from_bytes(content[40:48], "big")
    return (int.from_bytes(content[l1 : l1 + 8], "big") & 0x00FFFFFFFFFFFE00) + 8 * cluster


def test_a_cluster_that_shows_its_parent_s_content_is_damaged(
    store: SampleStore, points: list[Point]
) -> None:
    layer = store.layer(points[1])
    place = l2_entry(layer, 2)
    with layer.open("r+b") as file:
        os.pwrite(file.fileno(), bytes(8), place)
    assert found(store, points[1]).ranges == [(2 * CLUSTER, CLUSTER)]


def test_a_cluster_that_hides_its_parent_s_content_is_damaged(
    store: SampleStore, points: list[Point]
) -> None:
    """A bit that makes an empty entry an explicit zero."""
    layer = store.layer(points[1])
    flip_in_file(layer, l2_entry(layer, 5) + 7)
    assert found(store, points[1]).ranges == [(5 * CLUSTER, CLUSTER)]


def test_zeros_over_nothing_are_no_damage(store: SampleStore, points: list[Point]) -> None:
    layer = store.layer(points[1])
    flip_in_file(layer, l2_entry(layer, 60) + 7)
    assert found(store, points[1]).result is GOOD


@pytest.mark.parametrize("kind", ["zlib", "zstd"])
def test_compressed_clusters_are_unpacked(store: SampleStore, points: list[Point], kind: str) -> None:
    layer = store.layer(points[0])
    packed = layer.with_suffix(".packed")
    options = ["-O", "qcow2", "-o", f"compression_type={kind}"]
    run("qemu-img", "convert", "-c", *options, str(layer), str(packed))
    packed.rename(layer)
    assert found(store, points[0]).result is GOOD
    with layer.open("rb") as file:
        entry = int.from_bytes(os.pread(file.fileno(), 8, l2_entry(layer, 3)), "big")
    flip_in_file(layer, (entry & ((1 << 54) - 1)) + 4, bit=5)
    check = found(store, points[0])
    assert (check.result, check.ranges) == (DAMAGED, [(3 * CLUSTER, CLUSTER)])


def drop(store: SampleStore, *points: Point) -> None:
    drop_points(store.catalog, Store(store.root), [point.id for point in points], now=NOW)


def consolidate(store: SampleStore, *, shares: bool = False, max_depth: int = 50) -> None:
    abilities = Abilities(shares=shares, punches=True)
    work = Consolidation(Store(store.root), store.catalog, abilities, max_depth=max_depth)
    for disk in work.waiting():
        work.consolidate(disk, at_once)


def test_the_holes_of_a_ghost_are_no_damage_but_everything_else_is(
    store: SampleStore, points: list[Point]
) -> None:
    layer = store.layer(points[0])
    masked, seen = place_of(layer, CLUSTER), place_of(layer, 12 * CLUSTER)
    drop(store, points[0])
    consolidate(store)
    with layer.open("rb") as file:
        assert not any(os.pread(file.fileno(), CLUSTER, masked)), "no hole was made"
    assert found(store, points[0]).result is GOOD
    flip_in_file(layer, masked)
    assert found(store, points[0]).result is GOOD
    flip_in_file(layer, seen)
    assert found(store, points[0]).ranges == [(12 * CLUSTER, CLUSTER)]


def test_what_only_one_of_two_children_masks_is_looked_at(store: SampleStore, points: list[Point]) -> None:
    flip(store.layer(points[0]), CLUSTER)
    store._heads[DB] = points[0].id
    store.add({DB: [Write(20 * CLUSTER, CLUSTER, 9)]})
    drop(store, points[0])
    assert found(store, points[0]).ranges == [(CLUSTER, CLUSTER)]


def test_a_layer_that_nobody_needs_is_not_read(store: SampleStore, points: list[Point]) -> None:
    drop(store, points[2])
    assert scrub(store, points[2]) is None
    assert checks(store) == {}


@pytest.mark.parametrize("shares", [False, True])
def test_merged_layers_are_good_again(store: SampleStore, points: list[Point], shares: bool) -> None:
    for point in points:
        scrub(store, point)
    drop(store, points[0], points[1])
    consolidate(store, shares=shares, max_depth=1)
    assert {point: check.checked_at for point, check in checks(store).items()} == {points[2].id: NOW}
    check = found(store, points[2])
    assert check.result is GOOD


def test_damage_that_is_merged_stays_known_and_is_looked_for_first(
    store: SampleStore, points: list[Point]
) -> None:
    flip(store.layer(points[0]), CLUSTER)
    flip(store.layer(points[0]), 4 * CLUSTER)
    found(store, points[0])
    drop(store, points[0], points[1])
    consolidate(store, shares=True)
    (known,) = checks(store).values()
    assert (known.point, known.result, known.checked_at) == (points[2].id, DAMAGED, None)
    assert known.ranges == [(CLUSTER, CLUSTER), (4 * CLUSTER, CLUSTER)]
    # cluster 1 was masked by the second point
    assert found(store, points[2]).ranges == [(4 * CLUSTER, CLUSTER)]


def test_a_merged_layer_of_which_a_part_was_never_read_was_never_read(
    store: SampleStore, points: list[Point]
) -> None:
    found(store, points[2])
    drop(store, points[0], points[1])
    consolidate(store, shares=True)
    assert checks(store) == {}


def test_a_merge_without_one_of_the_tables_calls_nothing_damaged(
    store: SampleStore, points: list[Point]
) -> None:
    flip_in_file(store.layer(points[0]).with_suffix(".digests"), 100)
    drop(store, points[0], points[1])
    consolidate(store, shares=True)
    check = found(store, points[2])
    assert (check.result, check.ranges) == (UNREADABLE, [])
    assert check.problem
    assert "digest table" in check.problem


def test_what_was_found_of_a_file_that_was_replaced_is_not_kept(
    store: SampleStore, points: list[Point]
) -> None:
    flip(store.layer(points[2]), 8 * CLUSTER)
    drop(store, points[0], points[1])

    def merge_meanwhile(count: int) -> None:
        consolidate(store, shares=True)

    assert scrub(store, points[2], merge_meanwhile) is None
    assert checks(store) == {}
    assert found(store, points[2]).ranges == [(8 * CLUSTER, CLUSTER)]


def test_nothing_is_said_of_a_layer_whose_merge_was_interrupted(
    config: Config, store: SampleStore, points: list[Point], tmp_path: Path
) -> None:
    """A kill came between the new name and the manifest, and no receiver has been started since."""
    drop(store, points[1])

    def merge() -> None:
        with open_catalog(config.database_url) as catalog:
            consolidate(SampleStore(store.root, catalog), shares=True)

    assert killed_at("chain.layer-replaced", 1, merge, tmp_path)
    assert scrub(store, points[2]) is None
    recover_merges(store.catalog, Store(store.root))
    assert found(store, points[2]).result is GOOD


def test_a_lost_table_does_not_hide_a_damaged_structure(store: SampleStore, points: list[Point]) -> None:
    layer = store.layer(points[0])
    layer.with_suffix(".digests").unlink()
    with layer.open("r+b") as file:
        os.pwrite(file.fileno(), (1 << 50).to_bytes(8, "big"), l2_entry(layer, 3))
    check = found(store, points[0])
    assert (check.result, check.problem) == (DAMAGED, "an L2 entry points past the end of the file")


def test_no_hole_is_made_into_a_layer_that_is_being_read(store: SampleStore, points: list[Point]) -> None:
    held: list[bool] = []

    def look(count: int) -> None:
        with (
            access.alone(store.layer(points[0])) as free,
            access.alone(store.layer(points[0]).parent) as names,
        ):
            held.extend((free, names))

    scrub(store, points[0], look)
    assert held == [False, True]


def test_it_gives_way_at_once(store: SampleStore, points: list[Point]) -> None:
    pace = Pace(1, lambda: 0.0)
    threading.Timer(0.1, pace.stop.set).start()
    with pytest.raises(GiveWay):
        scrub(store, points[0], pace)
    assert checks(store) == {}
