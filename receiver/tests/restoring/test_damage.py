# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores of points that are not what they were."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from damaging import CLUSTER, bad_sector, flip, place_of
from restores import DISK, act, plan
from sample_store import SampleStore, Write, read_image, run

from livebackup_receiver import convert
from livebackup_receiver.catalog.layer_checks import list_checks
from livebackup_receiver.convert import Format
from livebackup_receiver.errors import LayerDamaged, PointDamaged, TargetFaulty
from livebackup_receiver.model import Point
from livebackup_receiver.restoring.act import look
from livebackup_receiver.restoring.manner import Manner
from livebackup_receiver.restoring.partial import note

ACCEPTING = Manner(accept_damage=True)


@pytest.fixture
def points(store: SampleStore) -> list[Point]:
    """Each overwrites a part of the one before."""
    return [
        store.add({DISK: [Write(0, 8 * CLUSTER, 1)]}),
        store.add({DISK: [Write(2 * CLUSTER, CLUSTER, 2)]}),
        store.add({DISK: [Write(4 * CLUSTER, CLUSTER, 3), Write(2 * CLUSTER, CLUSTER, 4)]}),
    ]


@pytest.fixture(params=list(Format))
def format(request: pytest.FixtureRequest) -> Format:
    chosen: Format = request.param
    return chosen


async def test_one_flipped_bit_is_refused_in_one_sentence(
    store: SampleStore, points: list[Point], tmp_path: Path, format: Format
) -> None:
    flip(store.layer(points[1]), 2 * CLUSTER + 100)
    with pytest.raises(PointDamaged) as caught:
        await act(plan(store, points[1], tmp_path / "out", format), store=store)
    assert str(caught.value) == (
        f"disk vd-a of VM db is damaged at point {points[1].id}, bytes 131072 to 196608; take point "
        f"{points[2].id} or {points[0].id}, where it is not, or what is left of this one with "
        "`livebackup-receiver restore --accept-damage`"
    )
    assert not (tmp_path / "out").exists()
    for whole in (points[0], points[2]):
        await act(plan(store, whole, tmp_path / whole.id, format), store=store)


async def test_the_layer_decides_which_points_see_it(
    store: SampleStore, points: list[Point], tmp_path: Path
) -> None:
    flip(store.layer(points[0]), 4 * CLUSTER)
    with pytest.raises(PointDamaged) as caught:
        await act(plan(store, points[1], tmp_path / "out"), store=store)
    assert f"take point {points[2].id}, where it is not, or" in str(caught.value)


async def test_what_is_lost_is_named_and_the_rest_is_there(
    store: SampleStore, points: list[Point], tmp_path: Path, format: Format
) -> None:
    flip(store.layer(points[0]), 0)
    flip(store.layer(points[2]), 4 * CLUSTER + 5)
    (done,) = await act(plan(store, points[2], tmp_path / "out", format), ACCEPTING, store=store)
    assert done.lost == [(0, CLUSTER), (4 * CLUSTER, CLUSTER)]
    found = read_image(done.disk.target, format, tmp_path)
    differ = [at for at in range(len(found)) if found[at] != store.content[DISK][at]]
    assert differ == [0, 4 * CLUSTER + 5]
    assert os.listdir(tmp_path / "out/db") == [f"vd-a.{format}"]


async def test_a_disk_that_has_lost_something_is_not_tracked(
    store: SampleStore, points: list[Point], tmp_path: Path
) -> None:
    flip(store.layer(points[0]), 0)
    (done,) = await act(plan(store, points[2], tmp_path / "out"), ACCEPTING, store=store)
    assert not done.tracked
    facts = json.loads(run("qemu-img", "info", "--output=json", str(done.disk.target)))
    names = [each["name"] for each in facts["format-specific"]["data"]["bitmaps"]]
    assert names == ["livebackup:tracked"]
    run("qemu-img", "check", "-q", str(done.disk.target))


async def test_nothing_is_noted_of_the_point(store: SampleStore, points: list[Point], tmp_path: Path) -> None:
    flip(store.layer(points[0]), 0)
    await act(plan(store, points[2], tmp_path / "out"), ACCEPTING, store=store)
    with store.catalog.read() as db:
        assert list_checks(db) == []


async def test_a_sound_point_loses_nothing(store: SampleStore, points: list[Point], tmp_path: Path) -> None:
    (done,) = await act(plan(store, points[2], tmp_path / "out"), ACCEPTING, store=store)
    assert done.lost == []
    assert done.tracked


async def test_a_compressed_cluster_that_cannot_be_unpacked(
    store: SampleStore, points: list[Point], tmp_path: Path, format: Format
) -> None:
    layer = store.layer(points[0])
    packed = tmp_path / "packed"
    options = ["-c", "-O", "qcow2", "-o", "compression_type=zstd"]
    run("qemu-img", "convert", *options, str(layer), str(packed))
    packed.rename(layer)
    content = bytearray(layer.read_bytes())
    frame = content.index(b"\x28\xb5\x2f\xfd")
    content[frame + 4] ^= 0xFF
    layer.write_bytes(content)
    with pytest.raises(PointDamaged, match=r"damaged at point .*, bytes 0 to 65536"):
        await act(plan(store, points[0], tmp_path / "out", format), store=store)
    (done,) = await act(plan(store, points[0], tmp_path / "out", format), ACCEPTING, store=store)
    assert done.lost == [(0, CLUSTER)]


async def test_a_sector_that_cannot_be_read(
    store: SampleStore, points: list[Point], tmp_path: Path, format: Format
) -> None:
    layer = store.layer(points[0])
    with bad_sector(layer, place_of(layer, 6 * CLUSTER)):
        with pytest.raises(LayerDamaged, match=f"{layer} is damaged: it cannot be read: Input/output error"):
            await act(plan(store, points[2], tmp_path / "out", format), store=store)
        (done,) = await act(plan(store, points[2], tmp_path / "out", format), ACCEPTING, store=store)
    assert done.lost == [(6 * CLUSTER, CLUSTER)]
    found = read_image(done.disk.target, format, tmp_path)
    assert found[7 * CLUSTER :] == store.content[DISK][7 * CLUSTER :]


async def test_a_target_that_does_not_keep_what_is_written_is_not_called_a_damaged_point(
    store: SampleStore, points: list[Point], tmp_path: Path, format: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rot(*arguments: object, **more: object) -> None:
        real(*arguments, **more)  # type: ignore[arg-type]
        partial = tmp_path / f"out/db/vd-a.{format}.partial"
        content = bytearray(partial.read_bytes())
        content[content.index(bytes([4]) * CLUSTER)] ^= 1
        partial.write_bytes(content)

    real = convert.fill
    monkeypatch.setattr(convert, "fill", rot)
    with pytest.raises(
        TargetFaulty, match="does not hold what was written to it, bytes 131072 to 196608 of the"
    ):
        await act(plan(store, points[2], tmp_path / "out", format), store=store)
    assert not (tmp_path / "out").exists()


async def test_a_partial_file_that_lies_about_a_damaged_point(
    store: SampleStore, points: list[Point], tmp_path: Path, format: Format
) -> None:
    """What is damaged in the store is told from what an earlier run has left wrong."""
    flip(store.layer(points[0]), 0)
    planned = plan(store, points[2], tmp_path / "out", format)
    (disk,) = planned.disks
    disk.partial.parent.mkdir(parents=True)
    disk.partial.write_bytes(bytes(1 << 20))
    wanted = look(disk, planned, Manner()).wanted
    note(disk, wanted.model_copy(update={"watermark": 1 << 20}))
    (done,) = await act(planned, ACCEPTING, store=store)
    assert done.lost == [(0, CLUSTER)]
    assert read_image(disk.target, format, tmp_path)[CLUSTER:] == store.content[DISK][CLUSTER:]
