# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers are compressed in a second pass, stay what they were, and can be merged and restored."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from overlapping_points import extend
from random_chains import is_clean
from sample_store import KIB, SampleStore, Write, read_image, run

from livebackup_receiver import convert
from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.chain.image import COMPRESSED, open_image
from livebackup_receiver.consolidation.act import Disk
from livebackup_receiver.consolidation.plan import Abilities
from livebackup_receiver.consolidation.turns import GiveWay, Pace
from livebackup_receiver.consolidation.worker import Consolidation
from livebackup_receiver.convert import Format
from livebackup_receiver.decisions import drop_points
from livebackup_receiver.errors import (
    CommandFailed,
    DigestsInvalid,
    LayerDamaged,
    LayerInUse,
    LayerUnsupported,
)
from livebackup_receiver.model import Point
from livebackup_receiver.restore import layers_held
from livebackup_receiver.store.manifest import read_manifest
from livebackup_receiver.store.paths import Store

DB = ("db", "vd-a")


def make_points(store: SampleStore) -> tuple[list[Point], dict[str, bytes]]:
    """Three points with a megabyte each, zeros over data among them."""
    points: list[Point] = []
    content: dict[str, bytes] = {}
    for number in range(3):
        zeros = Write(number * 512 * KIB, 128 * KIB, 0, "write -z")
        points.append(store.add({DB: [Write(number * 512 * KIB, 2048 * KIB, number + 1), zeros]}))
        content[points[-1].id] = read_image(store.layer(points[-1]), "qcow2", store.root)
    return points, content


def compress_all(store: SampleStore) -> Consolidation:
    work = Consolidation(
        Store(store.root), store.catalog, Abilities(shares=False, punches=True), max_depth=50
    )
    for disk, layer in work.compressible():
        work.compress(disk, layer, at_once)
    return work


def is_packed(layer: Path) -> bool:
    with open_image(layer) as image:
        return any((tables & COMPRESSED).any() for dummy, tables in image.batches())


def test_layers_take_less_room_and_hold_the_same(store: SampleStore) -> None:
    points, content = make_points(store)
    before = [store.layer(point).stat().st_blocks for point in points]
    compress_all(store)
    for point, blocks in zip(points, before, strict=True):
        layer = store.layer(point)
        assert is_packed(layer)
        assert is_clean(layer)
        assert layer.stat().st_blocks < blocks / 4
        assert read_image(layer, "qcow2", store.root) == content[point.id]
        assert read_manifest(layer.with_suffix(".json")).layer_size == layer.stat().st_size
    assert all("/" not in str(backing(store, point)) for point in points)


def backing(store: SampleStore, point: Point) -> str | None:
    with open_image(store.layer(point)) as image:
        return image.backing


def test_a_compressed_layer_is_not_compressed_again(store: SampleStore) -> None:
    points, dummy = make_points(store)
    compress_all(store)
    before = [store.layer(point).stat().st_ino for point in points]
    compress_all(store)
    assert [store.layer(point).stat().st_ino for point in points] == before


def test_what_does_not_become_smaller_stays(store: SampleStore) -> None:
    noise = store.root / "noise"
    noise.write_bytes(os.urandom(2048 * KIB))
    point = store.add({DB: [Write(0, 2048 * KIB, 0, f"write -q -s {noise}")]})
    before = store.layer(point).stat().st_ino
    compress_all(store)
    assert store.layer(point).stat().st_ino == before
    assert not list(store.layer(point).parent.glob("*.tmp"))


@pytest.mark.parametrize("format", list(Format))
def test_a_compressed_chain_is_restored_and_verified(
    store: SampleStore, tmp_path: Path, format: Format
) -> None:
    points, content = make_points(store)
    compress_all(store)
    layers = [store.layer(point) for point in reversed(points)]
    target = tmp_path / "target"
    convert.write(layers, target, format)
    convert.verify(layers, target, format)
    assert read_image(target, format, tmp_path) == content[points[-1].id]


@pytest.mark.parametrize("shares", [True, False])
def test_compressed_layers_are_merged_without_unpacking_them(store: SampleStore, shares: bool) -> None:
    points, content = make_points(store)
    compress_all(store)
    drop_points(store.catalog, Store(store.root), [points[1].id], now=datetime.now(UTC))
    abilities = Abilities(shares=shares, punches=True)
    work = Consolidation(Store(store.root), store.catalog, abilities, max_depth=2)
    for disk in work.waiting():
        work.consolidate(disk, at_once)
    assert not store.layer(points[1]).exists()
    assert is_packed(store.layer(points[2]))
    for point in (points[0], points[2]):
        assert read_image(store.layer(point), "qcow2", store.root) == content[point.id]
        assert is_clean(store.layer(point))


def test_damage_is_not_packed_away(store: SampleStore) -> None:
    points, dummy = make_points(store)
    damage(store.layer(points[0]))
    work = Consolidation(Store(store.root), store.catalog, Abilities(False, True), max_depth=50)
    disk, layer = work.compressible()[0]
    assert isinstance(disk, Disk)
    with pytest.raises(LayerDamaged, match="do not match their digests"):
        work.compress(disk, layer, at_once)
    assert not is_packed(store.layer(points[0]))


def damage(layer: Path) -> None:
    """Write into the last cluster."""
    with open_image(layer) as image, layer.open("r+b") as file:
        place = max(int(runs.max()) & 0x00FF_FFFF_FFFF_FE00 for dummy, runs in image.batches())
        file.seek(place)
        file.write(b"?")


def forget_digests(layer: Path) -> None:
    layer.with_suffix(".digests").unlink()


def cripple(layer: Path) -> None:
    """Lead it to a parent that is not there, which only QEMU minds."""
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "gone.qcow2", "-F", "qcow2", str(layer))


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (damage, LayerDamaged),
        (forget_digests, DigestsInvalid),
        (extend, LayerUnsupported),
        (cripple, CommandFailed),
    ],
)
def test_what_cannot_be_compressed_is_tried_once(
    store: SampleStore, spoil: Callable[[Path], None], error: type[Exception]
) -> None:
    """The error is logged each time, and every pass would read the layer again."""
    points, dummy = make_points(store)
    spoil(store.layer(points[0]))
    work = Consolidation(Store(store.root), store.catalog, Abilities(False, True), max_depth=50)
    disk, layer = work.compressible()[0]
    with pytest.raises(error):
        work.compress(disk, layer, at_once)
    assert [each.point for dummy, each in work.compressible()] == [points[1].id, points[2].id]


def test_what_somebody_else_needs_is_compressed_later(store: SampleStore) -> None:
    points, dummy = make_points(store)
    work = Consolidation(Store(store.root), store.catalog, Abilities(False, True), max_depth=50)
    disk, layer = work.compressible()[0]
    with layers_held([store.layer(points[0])]), pytest.raises(LayerInUse):
        work.compress(disk, layer, at_once)
    pace = Pace(0, lambda: 1.0)
    pace.stop.set()
    with pytest.raises(GiveWay):
        work.compress(disk, layer, pace)
    assert work.compressible()[0] == (disk, layer)
    work.compress(disk, layer, at_once)
    assert is_packed(store.layer(points[0]))
