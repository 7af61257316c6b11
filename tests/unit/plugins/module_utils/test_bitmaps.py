# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which bitmaps count, and for how much."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils import _bitmaps, _names
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Bitmap


def test_the_marker_says_that_a_disk_is_tracked(make_disk: Any) -> None:
    assert _bitmaps.is_tracked(make_disk(Bitmap("disk-a", _names.MARKER, 131072)))
    assert not _bitmaps.is_tracked(make_disk("livebackup:01JD50BR1C8Q2W3E4R5T6Y7V8A"))


def test_a_marker_below_a_snapshot_still_counts(make_disk: Any) -> None:
    marker = Bitmap("base", _names.MARKER, granularity=131072)
    disk = make_disk(marker, node="overlay", chain=("base",))
    assert _bitmaps.is_tracked(disk)
    assert _bitmaps.granularity(disk) == 131072


def test_the_nearest_marker_gives_the_granularity(make_disk: Any) -> None:
    markers = [Bitmap("base", _names.MARKER, 131072), Bitmap("overlay", _names.MARKER, 262144)]
    assert _bitmaps.granularity(make_disk(*markers, node="overlay", chain=("base",))) == 262144


def test_without_a_marker_the_granularity_is_the_clusters(make_disk: Any) -> None:
    assert _bitmaps.granularity(make_disk()) == 65536


def test_checkpoints_are_those_the_guest_writes_to(make_disk: Any, points: Any) -> None:
    old, new = points
    bitmaps = [
        Bitmap("base", f"livebackup:{old}"),
        Bitmap("overlay", f"livebackup:{new}"),
        Bitmap("overlay", "others"),
    ]
    assert list(_bitmaps.checkpoints(make_disk(*bitmaps, node="overlay", chain=("base",)))) == [new]


@pytest.mark.parametrize(
    ("changes", "healthy"),
    [({}, True), ({"inconsistent": True}, False), ({"recording": False}, False), ({"busy": True}, False)],
)
def test_health(make_disk: Any, points: Any, changes: dict[str, bool], healthy: bool) -> None:
    bitmap = Bitmap("disk-a", f"livebackup:{points[0]}", **changes)
    assert _bitmaps.is_healthy(make_disk(bitmap), points[0]) is healthy


def test_a_bitmap_that_is_not_there_is_not_healthy(make_disk: Any, points: Any) -> None:
    assert not _bitmaps.is_healthy(make_disk(), points[0])


def test_a_bitmap_only_below_a_snapshot_is_not_healthy(make_disk: Any, points: Any) -> None:
    # what was written since the snapshot was recorded nowhere
    below = Bitmap("base", f"livebackup:{points[0]}")
    assert not _bitmaps.is_healthy(make_disk(below, node="overlay", chain=("base",)), points[0])


def test_one_damaged_bitmap_spoils_the_union(make_disk: Any, points: Any) -> None:
    name = f"livebackup:{points[0]}"
    disk = make_disk(name, Bitmap("base", name, inconsistent=True), chain=("base",))
    assert not _bitmaps.is_healthy(disk, points[0])


def end(node: str, point: str, **changes: Any) -> Bitmap:
    """An end bitmap as we make it."""
    facts = {"dirty_bytes": 65536, "recording": False, **changes}
    return Bitmap(node, _names.end(point), **facts)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, None),
        ({"dirty_bytes": 0}, "shrunk"),
        # one that a snapshot made proves nothing
        ({"recording": True}, "snapshot"),
    ],
)
def test_a_checkpoint_needs_its_end(
    make_disk: Any, points: Any, changes: dict[str, Any], fault: str | None
) -> None:
    ending = end(**{"node": "disk-a", "point": points[0], **changes})
    assert _bitmaps.fault(make_disk(f"livebackup:{points[0]}", ending), points[0]) == fault


def test_a_damaged_checkpoint_is_inconsistent_whatever_its_end_says(make_disk: Any, points: Any) -> None:
    damaged = Bitmap("disk-a", f"livebackup:{points[0]}", inconsistent=True)
    assert _bitmaps.fault(make_disk(damaged, end("disk-a", points[0])), points[0]) == "inconsistent"


@pytest.mark.parametrize(
    ("checkpoint_on", "end_on", "fault"),
    [
        (["top", "mid", "base"], "base", None),
        (["top", "mid"], "mid", None),
        (["top", "mid", "base"], "top", None),
        # the snapshot was taken without a namesake
        (["mid", "base"], "base", "snapshot"),
        (["top", "base"], "base", "snapshot"),
        # the node the checkpoint was made on has been merged away
        (["top", "mid"], None, "snapshot"),
        (["top"], None, "snapshot"),
    ],
)
def test_the_checkpoint_must_be_on_every_node_down_to_its_own(
    make_disk: Any, points: Any, checkpoint_on: list[str], end_on: str | None, fault: str | None
) -> None:
    bitmaps = [Bitmap(node, f"livebackup:{points[0]}") for node in checkpoint_on]
    bitmaps += [end(end_on, points[0])] if end_on else []
    disk = make_disk(*bitmaps, node="top", chain=("mid", "base"))
    assert _bitmaps.fault(disk, points[0]) == fault


@pytest.mark.parametrize(("base_size", "fault"), [(1 << 30, None), (1 << 29, "snapshot")])
def test_a_snapshot_that_grew_cannot_be_merged(
    make_disk: Any, points: Any, base_size: int, fault: str | None
) -> None:
    name = f"livebackup:{points[0]}"
    bitmaps = [Bitmap("top", name, node_size=1 << 30), Bitmap("base", name, node_size=base_size)]
    disk = make_disk(*bitmaps, end("base", points[0]), node="top", chain=("base",))
    assert _bitmaps.fault(disk, points[0]) == fault


@pytest.mark.parametrize(
    ("cluster", "granularity", "unit"),
    [(65536, 65536, 1), (2 << 20, 65536, 2 << 20), (65536, 4096, 65536), (1, 65536, 1), (None, 65536, None)],
)
def test_a_last_granule_that_covers_a_cluster_makes_any_size_fit(
    make_disk: Any, points: Any, cluster: int | None, granularity: int, unit: int | None
) -> None:
    ending = end("disk-a", points[0], granularity=granularity)
    assert _bitmaps.growth_unit(make_disk(ending, growth_unit=cluster)) == unit


def test_dirty_bytes_are_summed_over_the_chain_but_never_more_than_the_disk(
    make_disk: Any, points: Any
) -> None:
    name = f"livebackup:{points[0]}"
    bitmaps = [Bitmap("disk-a", name, dirty_bytes=300), Bitmap("base", name, dirty_bytes=500)]
    assert _bitmaps.dirty_bytes(make_disk(*bitmaps, chain=("base",)), points[0]) == 800
    assert _bitmaps.dirty_bytes(make_disk(*bitmaps, chain=("base",), virtual_size=512), points[0]) == 512


@pytest.mark.parametrize(
    ("changes", "supported"),
    [
        ({}, True),
        ({"format": "raw"}, True),
        ({"format": "vmdk"}, False),
        ({"format": "qcow2+encryption"}, False),
        ({"read_only": True}, False),
        ({"device": None}, False),
    ],
)
def test_support(make_disk: Any, changes: dict[str, Any], supported: bool) -> None:
    assert _bitmaps.is_supported(make_disk(**changes)) is supported
