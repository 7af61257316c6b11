# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_reports import GIB, bitmap, disk_report, vm_report

from livebackup_receiver.coordinator.plan import Ancestor, check_reports, decide, plan_host
from livebackup_receiver.coordinator.reports import BitmapFault, BitmapReport, VmReport
from livebackup_receiver.errors import (
    BodyInvalid,
    FormatUnsupported,
    NameInvalid,
    NoTrackedDisk,
    NoVms,
    ReceiverError,
)
from livebackup_receiver.model import Level

FIRST, SECOND, THIRD = (f"01JD00000000000000000000{number}A" for number in range(1, 4))


def ancestor(point: str, *, virtual_size: int = GIB, present: bool = True) -> Ancestor:
    return Ancestor(point, virtual_size, present)


def test_first_backup_is_full() -> None:
    decision = decide(disk_report(), [])
    assert (decision.level, decision.reason) == (Level.FULL, "first backup of this disk")


def test_changes_since_the_newest_point_are_enough() -> None:
    disk = disk_report(bitmaps=[bitmap(FIRST), bitmap(SECOND, dirty_bytes=131072)])
    decision = decide(disk, [ancestor(FIRST), ancestor(SECOND)])
    assert decision.level is Level.INCREMENTAL
    assert decision.bitmap is not None
    assert (decision.bitmap.point, decision.bitmap.dirty_bytes) == (SECOND, 131072)
    assert decision.reason == f"changes since point {SECOND}"


def test_an_older_point_still_serves_if_the_newest_bitmap_is_lost() -> None:
    decision = decide(disk_report(bitmaps=[bitmap(FIRST)]), [ancestor(FIRST), ancestor(SECOND)])
    assert decision.bitmap is not None
    assert decision.bitmap.point == FIRST


@pytest.mark.parametrize(
    ("bitmaps", "ancestors", "reason"),
    [
        ([], [ancestor(FIRST)], "no bitmap of a committed point on the disk"),
        (
            [bitmap(FIRST, healthy=False)],
            [ancestor(FIRST)],
            f"bitmap of point {FIRST} is inconsistent after an unclean stop of the VM",
        ),
        (
            [bitmap(FIRST)],
            [ancestor(FIRST, virtual_size=2 * GIB)],
            f"size changed from {2 * GIB} to {GIB} bytes",
        ),
        (
            [bitmap(FIRST, healthy=False, fault=BitmapFault.SHRUNK)],
            [ancestor(FIRST)],
            f"the disk was made smaller since point {FIRST}, so its bitmap is incomplete",
        ),
        (
            [bitmap(FIRST, healthy=False, fault=BitmapFault.SNAPSHOT)],
            [ancestor(FIRST)],
            f"an external snapshot was taken or merged since point {FIRST}, so its bitmap is incomplete",
        ),
        ([bitmap(SECOND)], [ancestor(FIRST)], f"point {SECOND} no longer exists"),
        (
            [bitmap(FIRST, healthy=False), bitmap(SECOND, healthy=False)],
            [ancestor(FIRST)],
            f"bitmap of point {FIRST} is inconsistent after an unclean stop of the VM",
        ),
        (
            [bitmap(FIRST)],
            [ancestor(FIRST, present=False)],
            f"the layer of point {FIRST} is missing in the store",
        ),
    ],
)
def test_a_full_backup_says_why(bitmaps: list[BitmapReport], ancestors: list[Ancestor], reason: str) -> None:
    decision = decide(disk_report(bitmaps=bitmaps), ancestors)
    assert (decision.level, decision.reason) == (Level.FULL, reason)


@pytest.mark.parametrize("other", [GIB // 2, 2 * GIB, GIB + 512])
def test_the_size_at_points_of_another_branch_does_not_matter(other: int) -> None:
    """The disk was restored to the first point; that it was never cut off, its end bitmap proves."""
    disk = disk_report(bitmaps=[bitmap(FIRST)], growth_unit=None)
    decision = decide(disk, [ancestor(SECOND, virtual_size=other), ancestor(FIRST)])
    assert (decision.level, decision.parent) == (Level.INCREMENTAL, FIRST)


def test_shrunk_and_grown_again_is_full() -> None:
    """The bitmap of the first point does not know what was cut off while the disk was smaller."""
    disk = disk_report(bitmaps=[bitmap(FIRST, healthy=False, fault=BitmapFault.SHRUNK)])
    decision = decide(disk, [ancestor(SECOND, virtual_size=GIB // 2), ancestor(FIRST)])
    assert decision.reason == f"the disk was made smaller since point {FIRST}, so its bitmap is incomplete"


def test_a_grown_disk_is_incremental_and_says_so() -> None:
    disk = disk_report(bitmaps=[bitmap(FIRST)], virtual_size=2 * GIB)
    decision = decide(disk, [ancestor(FIRST), ancestor(SECOND)])
    assert decision.level is Level.INCREMENTAL
    assert decision.reason == f"changes since point {FIRST}; the disk grew from {GIB} to {2 * GIB} bytes"


@pytest.mark.parametrize("growth_unit", [None, 1 << 21])
def test_a_grown_disk_whose_new_area_may_hold_old_data_is_full(growth_unit: int | None) -> None:
    disk = disk_report(bitmaps=[bitmap(FIRST)], virtual_size=2 * GIB, growth_unit=growth_unit)
    reason = f"the disk grew from {GIB + 512} to {2 * GIB} bytes and its new area may hold old data"
    assert decide(disk, [ancestor(FIRST, virtual_size=GIB + 512)]).reason == reason
    assert decide(disk, [ancestor(FIRST, virtual_size=2 * GIB)]).level is Level.INCREMENTAL


def test_a_disk_that_grew_from_a_whole_number_of_clusters_is_incremental() -> None:
    disk = disk_report(bitmaps=[bitmap(FIRST)], virtual_size=GIB + 512, growth_unit=1 << 21)
    assert decide(disk, [ancestor(FIRST)]).level is Level.INCREMENTAL


POINTS = st.sampled_from([FIRST, SECOND, THIRD])
BITMAPS = st.lists(st.builds(bitmap, POINTS, healthy=st.booleans()), max_size=4)
ANCESTORS = st.lists(
    st.builds(ancestor, POINTS, virtual_size=st.sampled_from([GIB, 2 * GIB]), present=st.booleans()),
    max_size=3,
    unique_by=lambda each: each.point,
)


@given(BITMAPS, ANCESTORS)
def test_an_incremental_always_has_a_parent_to_stand_on(
    bitmaps: list[BitmapReport], ancestors: list[Ancestor]
) -> None:
    decision = decide(disk_report(bitmaps=bitmaps), ancestors)
    assert decision.reason
    if decision.bitmap is not None:
        assert decision.level is Level.INCREMENTAL
        assert decision.bitmap in bitmaps
        assert decision.bitmap.healthy
        parent = next(each for each in ancestors if each.point == decision.bitmap.point)
        assert parent.present
        assert parent.virtual_size <= GIB
    else:
        assert decision.level is Level.FULL


def test_only_tracked_disks_are_planned() -> None:
    report = vm_report("db", disk_report("vd-a"), disk_report("cd", tracked=False, format="raw"))
    transfers = plan_host("hv1", [report], {("db", "vd-a"): [ancestor(FIRST)]})
    assert [(each.vm, each.disk, each.host, each.level) for each in transfers] == [
        ("db", "vd-a", "hv1", Level.FULL)
    ]


@pytest.mark.parametrize(
    ("last", "remark"),
    [
        (SECOND, f"; disk vd-b of the VM, which point {SECOND} holds, is no longer tracked"),
        (FIRST, ""),
        (None, ""),
    ],
)
def test_a_disk_that_lost_its_marker_is_named(last: str | None, remark: str) -> None:
    report = vm_report("db", disk_report(bitmaps=[bitmap(SECOND)]), disk_report("vd-b", tracked=False))
    ancestors = {
        ("db", "vd-a"): [ancestor(FIRST), ancestor(SECOND)],
        ("db", "vd-b"): [ancestor(last, present=False)] if last else [],
    }
    (planned,) = plan_host("hv1", [report], ancestors)
    assert planned.level_reason == f"changes since point {SECOND}{remark}"


@pytest.mark.parametrize(
    ("reports", "error", "sentence"),
    [
        ([], NoVms, "host hv1 reports no VM"),
        ([vm_report("db", disk_report(tracked=False))], NoTrackedDisk, "VM db: no disk is tracked"),
        (
            [vm_report("db", disk_report(format="vmdk"))],
            FormatUnsupported,
            "VM db: disk vd-a has the format vmdk",
        ),
        ([vm_report("../db")], NameInvalid, "VM '../db'"),
        ([vm_report("db", disk_report("a/b"))], NameInvalid, "disk 'a/b'"),
        ([vm_report("db"), vm_report("db")], BodyInvalid, "VM db is reported 2 times"),
        ([vm_report("db", disk_report(), disk_report())], BodyInvalid, "disk vd-a is reported 2 times"),
    ],
)
def test_what_cannot_be_backed_up_is_refused_by_name(
    reports: list[VmReport], error: type[ReceiverError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        check_reports("hv1", reports)


def test_an_untracked_disk_may_have_any_format() -> None:
    check_reports("hv1", [vm_report("db", disk_report(), disk_report("cd", tracked=False, format="vmdk"))])
