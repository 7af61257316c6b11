# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers of a real store are read back, after something has happened to them."""

from __future__ import annotations

import os
import threading

import pytest
from damaging import CLUSTER, bad_sector, flip, flip_in_file, place_of
from reading_back import NOW, checks, found, l2_entry, scrub
from sample_store import SampleStore, run

from livebackup_receiver.consolidation.turns import GiveWay, Pace
from livebackup_receiver.errors import StoreFailed
from livebackup_receiver.model import Point
from livebackup_receiver.scrub.finding import Result

GOOD, DAMAGED, UNREADABLE = Result.GOOD, Result.DAMAGED, Result.UNREADABLE


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


def test_a_lost_table_does_not_hide_a_damaged_structure(store: SampleStore, points: list[Point]) -> None:
    layer = store.layer(points[0])
    layer.with_suffix(".digests").unlink()
    with layer.open("r+b") as file:
        os.pwrite(file.fileno(), (1 << 50).to_bytes(8, "big"), l2_entry(layer, 3))
    check = found(store, points[0])
    assert (check.result, check.problem) == (DAMAGED, "an L2 entry points past the end of the file")


def test_nothing_is_said_of_layers_that_are_gone_for_a_minute(
    store: SampleStore, points: list[Point]
) -> None:
    """Where a file system was mounted an empty directory is left."""
    found(store, points[0])
    away = store.root.rename(store.root.with_name("away"))
    try:
        with pytest.raises(StoreFailed, match="is its file system mounted"):
            scrub(store, points[0])
    finally:
        away.rename(store.root)
    assert checks(store)[points[0].id].result is GOOD


def test_it_gives_way_at_once(store: SampleStore, points: list[Point]) -> None:
    pace = Pace(1, lambda: 0.0)
    threading.Timer(0.1, pace.stop.set).start()
    with pytest.raises(GiveWay):
        scrub(store, points[0], pace)
    assert checks(store) == {}
