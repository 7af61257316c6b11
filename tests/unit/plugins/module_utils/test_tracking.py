# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans of the module tracking."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils import _names, _tracking
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    CannotPersist,
    DiskBusy,
    DiskUnknown,
    OptionError,
    VmOwned,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._tracking import Wish
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Bitmap

PRESENT, ABSENT = Wish(present=True), Wish(present=False)


def test_a_marker_records_nothing(make_vm: Any, make_disk: Any) -> None:
    (change,) = _tracking.plan(make_vm(make_disk()), PRESENT)
    removals, additions = change.transactions()
    assert removals == []
    assert additions == [
        {
            "type": "block-dirty-bitmap-add",
            "data": {
                "node": "disk-a",
                "name": "livebackup:tracked",
                "granularity": 65536,
                "persistent": True,
                "disabled": True,
            },
        }
    ]


def test_a_good_marker_stays(make_vm: Any, make_disk: Any) -> None:
    (change,) = _tracking.plan(make_vm(make_disk(_names.MARKER)), PRESENT)
    assert (change.remove, change.add) == ((), ())


@pytest.mark.parametrize("changes", [{"inconsistent": True}, {"granularity": 131072}])
def test_a_bad_marker_is_replaced(make_vm: Any, make_disk: Any, changes: dict[str, Any]) -> None:
    marker = Bitmap("disk-a", _names.MARKER, **changes)
    (change,) = _tracking.plan(make_vm(make_disk(marker)), PRESENT)
    assert change.remove == (marker,)
    assert [bitmap.granularity for bitmap in change.after().bitmaps] == [65536]


def test_absent_leaves_the_bitmaps_of_others(make_vm: Any, make_disk: Any, points: Any) -> None:
    disk = make_disk(_names.MARKER, f"livebackup:{points[0]}", "others")
    (change,) = _tracking.plan(make_vm(disk), ABSENT)
    assert [bitmap.name for bitmap in change.after().bitmaps] == ["others"]


def test_absent_is_fine_with_disks_that_cannot_be_tracked(make_vm: Any, make_disk: Any) -> None:
    (change,) = _tracking.plan(make_vm(make_disk("others", format="vmdk")), ABSENT)
    assert (change.remove, change.add) == ((), ())


def test_what_cannot_be_removed_is_said(make_vm: Any, make_disk: Any) -> None:
    disk = make_disk(Bitmap("base", _names.MARKER), chain=("base",))
    with pytest.raises(DiskBusy, match="read-only backing node base"):
        _tracking.plan(make_vm(disk), ABSENT)


def test_transient_is_only_for_disks_that_need_it(make_vm: Any, make_disk: Any) -> None:
    raw = make_disk(name="vd-r", node="disk-r", format="raw", can_persist=False)
    vm = make_vm(make_disk(), raw)
    with pytest.raises(CannotPersist, match="set transient to true"):
        _tracking.plan(vm, PRESENT)
    changes = _tracking.plan(vm, Wish(present=True, transient=True))
    assert [change.add[0].persistent for change in changes] == [True, False]


def test_read_only_disks_are_not_meant_unless_named(make_vm: Any, make_disk: Any) -> None:
    vm = make_vm(make_disk(), make_disk(name="iso", node="iso", read_only=True))
    assert [change.disk.name for change in _tracking.plan(vm, PRESENT)] == ["vd-a"]


def test_names_must_exist(make_vm: Any, make_disk: Any) -> None:
    for wish in (Wish(present=True, disks=("vd-x",)), Wish(present=True, exclude=("vd-x",))):
        with pytest.raises(DiskUnknown, match="its disks are: vd-a"):
            _tracking.plan(make_vm(make_disk()), wish)


def test_excluded_disks_are_left_alone(make_vm: Any, make_disk: Any) -> None:
    wish = Wish(present=True, disks=("vd-a",), exclude=("vd-a",))
    assert _tracking.plan(make_vm(make_disk()), wish) == []


def test_a_running_backup_is_not_disturbed(make_vm: Any, make_disk: Any) -> None:
    job = {"id": "lb-job-0", "type": "backup", "status": "running"}
    vm = make_vm(make_disk(), jobs=(job,), objects=("lb-session-X",))
    with pytest.raises(VmOwned, match="being backed up by session X"):
        _tracking.plan(vm, PRESENT)


@pytest.mark.parametrize("granularity", [0, 256, 1000, -65536])
def test_granularities_qemu_refuses(granularity: int) -> None:
    params = {
        "granularity": granularity,
        "state": "present",
        "transient": False,
        "disks": None,
        "exclude": None,
    }
    with pytest.raises(OptionError, match="not a power of two"):
        _tracking.wish_of(params)


def test_the_result_has_the_same_keys_changed_or_not(make_vm: Any, make_disk: Any) -> None:
    results = []
    for disk in (make_disk(), make_disk(_names.MARKER)):
        vm = make_vm(disk)
        results.append(_tracking.result([vm], [_tracking.plan(vm, PRESENT)], []))
    assert [result["changed"] for result in results] == [True, False]
    assert results[0].keys() == results[1].keys()
    assert results[0]["diff"]["after"] == results[1]["diff"]["before"]
