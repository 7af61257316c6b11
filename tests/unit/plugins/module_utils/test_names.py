# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names are how everything is found again, so they are pinned."""

from __future__ import annotations

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils import _names

POINT = "01JD50BR1C8Q2W3E4R5T6Y7V8A"


def test_a_checkpoint_bears_its_point() -> None:
    assert _names.checkpoint(POINT) == f"livebackup:{POINT}"
    assert _names.point_of(f"livebackup:{POINT}") == POINT


@pytest.mark.parametrize(
    "name", ["livebackup:tracked", "livebackup:frozen", POINT, "other:" + POINT, "livebackup:"]
)
def test_other_bitmaps_are_no_checkpoints(name: str) -> None:
    assert _names.point_of(name) is None


def test_an_end_bitmap_bears_its_point_and_is_no_checkpoint() -> None:
    assert _names.end(POINT) == f"livebackup:end:{POINT}"
    assert _names.ended_point_of(_names.end(POINT)) == POINT
    assert _names.point_of(_names.end(POINT)) is None
    assert _names.is_ours(_names.end(POINT))


@pytest.mark.parametrize(
    "name", ["livebackup:end", "livebackup:end:", f"livebackup:{POINT}", f"end:{POINT}", "livebackup:end:X"]
)
def test_other_bitmaps_are_no_end_bitmaps(name: str) -> None:
    assert _names.ended_point_of(name) is None


@pytest.mark.parametrize("kind", ["cbw", "snap", "tmp", "nbd", "end", "last", "zero"])
def test_nodes_are_recognised_and_short_enough_for_qemu(kind: str) -> None:
    name = _names.node(kind, 123)
    assert _names.node_kind(name) == kind
    assert len(name.encode()) <= 31


@pytest.mark.parametrize("name", ["disk-a", "lb-job-0", "lb-cbw-x", "lb-cbw-1-more", "my-lb-cbw-1"])
def test_other_nodes_are_not_ours(name: str) -> None:
    assert _names.node_kind(name) is None


def test_a_claim_names_its_session() -> None:
    assert _names.session_of(_names.session_object(POINT)) == POINT
    assert _names.session_of("lb-pause") is None
