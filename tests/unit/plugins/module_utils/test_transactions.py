# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The QMP a cut consists of, as data."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils import _names, _transactions
from ansible_collections.livebackup.qemu.plugins.module_utils._plan import DiskPlan
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Bitmap


@pytest.fixture
def full(make_disk: Any, points: Any) -> DiskPlan:
    marker = Bitmap("disk-a", _names.MARKER, granularity=131072)
    return DiskPlan(make_disk(marker), index=0, point=points[1], export="secret")


@pytest.fixture
def increment(make_disk: Any, points: Any) -> DiskPlan:
    disk = make_disk(_names.MARKER, f"livebackup:{points[0]}")
    return DiskPlan(disk, index=1, point=points[1], parent=points[0])


def types(actions: list[dict[str, Any]]) -> list[str]:
    return [action["type"].removeprefix("block-dirty-bitmap-") for action in actions]


def test_an_empty_merge_would_crash_qemu() -> None:
    with pytest.raises(ValueError, match="at least one source"):
        _transactions.bitmap_merge("disk-a", "target", [])


def test_a_full_starts_a_checkpoint_and_nothing_else(full: DiskPlan, points: Any) -> None:
    (action,) = _transactions.start_checkpoints([full])
    assert action == {
        "type": "block-dirty-bitmap-add",
        "data": {
            "node": "disk-a",
            "name": f"livebackup:{points[1]}",
            "granularity": 131072,
            "persistent": True,
        },
    }
    assert _transactions.hand_over_frozen([full]) == []


def test_an_increment_freezes_a_copy_and_never_touches_the_old_checkpoint(
    increment: DiskPlan, points: Any
) -> None:
    add_new, add_frozen, merge = _transactions.start_checkpoints([increment])
    assert add_new["data"]["name"] == f"livebackup:{points[1]}"
    assert add_frozen["data"] == {
        "node": "disk-a",
        "name": _names.FROZEN,
        "granularity": 65536,
        "disabled": True,
    }
    assert merge["data"]["target"] == _names.FROZEN
    assert merge["data"]["bitmaps"] == [{"node": "disk-a", "name": f"livebackup:{points[0]}"}]


def test_all_namesakes_of_the_chain_are_merged(make_disk: Any, points: Any) -> None:
    name = f"livebackup:{points[0]}"
    disk = make_disk(Bitmap("base", name), Bitmap("overlay", name), node="overlay", chain=("base",))
    merge = _transactions.start_checkpoints([DiskPlan(disk, 0, points[1], points[0])])[-1]
    assert [source["node"] for source in merge["data"]["bitmaps"]] == ["overlay", "base"]


def test_the_last_granule_is_always_copied(make_disk: Any, points: Any) -> None:
    end = Bitmap("disk-a", _names.end(points[0]), dirty_bytes=65536, recording=False)
    disk = make_disk(f"livebackup:{points[0]}", end)
    merge = _transactions.start_checkpoints([DiskPlan(disk, 0, points[1], points[0])])[-1]
    names = [source["name"] for source in merge["data"]["bitmaps"]]
    assert names == [f"livebackup:{points[0]}", f"livebackup:end:{points[0]}"]


def test_the_frozen_copy_moves_to_the_snapshot(increment: DiskPlan) -> None:
    actions = _transactions.hand_over_frozen([increment])
    assert types(actions) == ["add", "merge", "remove"]
    assert [action["data"]["node"] for action in actions] == ["lb-snap-1", "lb-snap-1", "disk-a"]
    assert actions[-1]["data"]["name"] == _names.FROZEN


def test_a_disk_that_cannot_store_bitmaps_gets_a_transient_one(make_disk: Any, points: Any) -> None:
    disk = make_disk(_names.MARKER, can_persist=False)
    (action,) = _transactions.start_checkpoints([DiskPlan(disk, 0, points[1])])
    assert "persistent" not in action["data"]


def test_the_filter_never_lets_the_guest_wait_or_fail(full: DiskPlan, increment: DiskPlan) -> None:
    node = _transactions.filter_node(full, cbw_timeout=2)
    assert (node["on-cbw-error"], node["cbw-timeout"]) == ("break-snapshot", 2)
    assert "bitmap" not in node
    assert _transactions.filter_node(increment, 2)["bitmap"] == {"node": "disk-a", "name": _names.FROZEN}


@pytest.mark.parametrize("timeout", [0, 5, 60])
def test_a_timeout_that_overflows_in_qemu_is_refused(full: DiskPlan, timeout: int) -> None:
    with pytest.raises(ValueError, match=r"not in 1\.\.4"):
        _transactions.filter_node(full, timeout)


def test_the_nbd_client_cannot_reconnect(full: DiskPlan) -> None:
    node = _transactions.receiver_node(full)
    assert node["server"] == {"type": "fd", "str": "lb-fd-0"}
    assert node["reconnect-delay"] == 0
    assert node["tls-creds"] == "lb-psk"
    assert node["export"] == "secret"


def test_jobs_stay_until_their_outcome_was_read(full: DiskPlan, increment: DiskPlan) -> None:
    job = _transactions.backup_job(full, speed=0)
    assert (job["sync"], job["device"], job["auto-dismiss"]) == ("full", "lb-snap-0", False)
    job = _transactions.backup_job(increment, speed=1 << 20)
    assert (job["sync"], job["bitmap"], job["bitmap-mode"]) == ("bitmap", _names.FROZEN, "never")
    assert job["speed"] == 1 << 20
    assert job["x-perf"] == {"max-chunk": 65536}


def test_scratch_is_opened_by_descriptor() -> None:
    node = _transactions.scratch_node(3, 7)
    assert (node["node-name"], node["file"]["filename"]) == ("lb-tmp-3", "/dev/fdset/7")
