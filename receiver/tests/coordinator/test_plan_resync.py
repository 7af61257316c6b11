# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a disk without a usable bitmap is compared with its head, and what is said when it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_records import transfer
from sample_reports import GIB, bitmap, disk_report, vm_report
from sample_store import DISK_SIZE, SampleStore, Write

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.layer_checks import record_check
from livebackup_receiver.coordinator import prepare
from livebackup_receiver.coordinator.plan import Ancestor, Comparison, decide, plan_host
from livebackup_receiver.coordinator.reports import VmReport
from livebackup_receiver.model import Level, Point
from livebackup_receiver.scrub.finding import LayerCheck, Result
from livebackup_receiver.store.digests import write_table
from livebackup_receiver.store.paths import Store
from livebackup_receiver.store.room import planned_bytes

FIRST, SECOND = (f"01JD00000000000000000000{number}A" for number in range(1, 3))
ABLE = Comparison(able=True)
WRITES = {("db", "vd-a"): [Write(0, 65536, 1)]}


def head(
    point: str = SECOND, *, virtual_size: int = GIB, present: bool = True, undigested: str | None = None
) -> Ancestor:
    return Ancestor(point, virtual_size, present, undigested)


def test_an_inconsistent_bitmap_costs_reading_only() -> None:
    disk = disk_report(bitmaps=[bitmap(SECOND, healthy=False)])
    decision = decide(disk, [head(FIRST), head()], ABLE)
    assert (decision.level, decision.parent, decision.bitmap) == (Level.RESYNC, SECOND, None)
    assert decision.reason == (
        f"bitmap of point {SECOND} is inconsistent after an unclean stop of the VM; "
        f"only what differs from point {SECOND} is sent"
    )


def test_a_lost_bitmap_costs_reading_only() -> None:
    decision = decide(disk_report(), [head()], ABLE)
    assert (decision.level, decision.parent) == (Level.RESYNC, SECOND)
    assert decision.reason.startswith("no bitmap of a committed point on the disk; only what differs")


def test_a_bitmap_of_a_session_that_never_committed_explains_nothing() -> None:
    disk = disk_report(bitmaps=[bitmap(SECOND, healthy=False), bitmap(FIRST, healthy=False)])
    assert decide(disk, [head(FIRST)], ABLE).reason.startswith(f"bitmap of point {FIRST} is inconsistent")


def test_a_healthy_bitmap_is_better() -> None:
    decision = decide(disk_report(bitmaps=[bitmap(SECOND)]), [head()], ABLE)
    assert decision.level is Level.INCREMENTAL


def test_the_newest_point_whose_layer_is_there_is_the_head() -> None:
    decision = decide(disk_report(), [head(FIRST), head(present=False)], ABLE)
    assert (decision.level, decision.parent) == (Level.RESYNC, FIRST)


@pytest.mark.parametrize(
    ("ancestor", "comparison", "words"),
    [
        (head(), Comparison(lacks="nbdkit is not installed"), "nbdkit is not installed"),
        (head(undigested="the digest table x is missing"), ABLE, "the digest table x is missing"),
        (head(virtual_size=2 * GIB), ABLE, f"it is smaller than at point {SECOND}"),
        (head(present=False), ABLE, "no bitmap of a committed point on the disk"),
    ],
)
def test_a_full_says_why_it_is_no_resync(ancestor: Ancestor, comparison: Comparison, words: str) -> None:
    decision = decide(disk_report(), [ancestor], comparison)
    assert (decision.level, decision.parent) == (Level.FULL, None)
    assert words in decision.reason


def test_a_grown_disk_can_be_compared() -> None:
    assert decide(disk_report(virtual_size=2 * GIB), [head()], ABLE).level is Level.RESYNC


def test_each_vm_s_host_says_whether_it_can() -> None:
    able = vm_report("db").model_copy(update={"can_resync": True})
    ancestors = {("db", "vd-a"): [head()], ("web", "vd-a"): [head()]}
    (first,), (second,) = (plan_host("hv1", [vm], ancestors) for vm in (able, vm_report("web")))
    assert (first.level, first.parent, first.dirty_bytes) == (Level.RESYNC, SECOND, None)
    assert (second.level, second.level_reason) == (Level.FULL, "no bitmap of a committed point on the disk")


def test_a_resync_is_not_refused_for_lack_of_room_for_a_full() -> None:
    planned = transfer(level=Level.RESYNC, parent=FIRST, dirty_bytes=None)
    assert planned_bytes(planned, allocated_bytes=GIB) == 0


def able_report(*points: str, healthy: bool = False) -> VmReport:
    disk = disk_report(bitmaps=[bitmap(point, healthy=healthy) for point in points])
    return vm_report("db", disk).model_copy(update={"can_resync": True})


def undigested(catalog: Catalog, root: Path, report: VmReport) -> str | None:
    found = prepare.find_ancestors(catalog, Store(root), {"hv1": [report]})
    return found["db", "vd-a"][0].undigested


def write_tables(sample: SampleStore, *points: Point) -> None:
    for point in points:
        layer = sample.layer(point)
        write_table(layer, layer.with_suffix(".digests"))


def test_the_tables_of_the_whole_chain_are_needed(catalog: Catalog, tmp_path: Path) -> None:
    sample = SampleStore(tmp_path, catalog)
    first, dummy = sample.add(WRITES), sample.add(WRITES)
    sample.layer(first).with_suffix(".digests").unlink()
    assert f"{first.id}.digests cannot be used" in str(undigested(catalog, tmp_path, able_report()))
    write_tables(sample, first)
    assert undigested(catalog, tmp_path, able_report()) is None
    sample.layer(first).unlink()
    assert "its layer is missing" in str(undigested(catalog, tmp_path, able_report()))


def test_tables_are_read_only_where_a_resync_may_be_needed(catalog: Catalog, tmp_path: Path) -> None:
    sample = SampleStore(tmp_path, catalog)
    point = sample.add(WRITES)
    sample.layer(point).with_suffix(".digests").write_bytes(b"no table")
    assert undigested(catalog, tmp_path, able_report())
    size = point.vms[0].disks[0].virtual_size
    healthy = able_report(point.id, healthy=True)
    healthy.disks[0].virtual_size = size
    for report in (vm_report("db"), healthy):
        assert undigested(catalog, tmp_path, report) is None


def test_a_bitmap_that_cannot_be_used_does_not_hide_the_digests(catalog: Catalog, tmp_path: Path) -> None:
    sample = SampleStore(tmp_path, catalog)
    old, new = sample.add(WRITES), sample.add(WRITES)
    sample.layer(new).unlink()
    report = able_report(new.id, healthy=True)
    ancestors = prepare.find_ancestors(catalog, Store(tmp_path), {"hv1": [report]})
    (planned,) = prepare.plan_session({"hv1": [report]}, ancestors)
    assert (planned.level, planned.parent) == (Level.RESYNC, old.id)


def found_damage(sample: SampleStore, point: Point, *ranges: tuple[int, int], useless: bool = False) -> None:
    check = LayerCheck(
        vm="db",
        disk="vd-a",
        point=point.id,
        checked_at=point.cut_at,
        result=Result.DAMAGED,
        ranges=list(ranges),
    )
    assert check.useless is useless
    with sample.catalog.write() as db:
        record_check(db, check)


def planned(sample: SampleStore, report: VmReport) -> tuple[Level, str | None, str]:
    report.disks[0].virtual_size = DISK_SIZE
    ancestors = prepare.find_ancestors(sample.catalog, Store(sample.root), {"hv1": [report]})
    (transfer,) = prepare.plan_session({"hv1": [report]}, ancestors)
    return transfer.level, transfer.parent, transfer.level_reason


def test_a_healthy_bitmap_on_damaged_layers_is_compared_instead(catalog: Catalog, tmp_path: Path) -> None:
    sample = SampleStore(tmp_path, catalog)
    first, second = sample.add(WRITES), sample.add({("db", "vd-a"): [Write(1 << 20, 65536, 2)]})
    found_damage(sample, first, (0, 65536))
    reason = f"the layer of point {first.id} is damaged; only what differs from point {second.id} is sent"
    assert planned(sample, able_report(second.id, healthy=True)) == (Level.RESYNC, second.id, reason)


def test_damage_that_the_head_does_not_see_changes_nothing(catalog: Catalog, tmp_path: Path) -> None:
    sample = SampleStore(tmp_path, catalog)
    first, second = sample.add(WRITES), sample.add(WRITES)
    found_damage(sample, first, (0, 65536))
    assert planned(sample, able_report(second.id, healthy=True))[:2] == (Level.INCREMENTAL, second.id)


def test_a_host_that_cannot_compare_sends_all(catalog: Catalog, tmp_path: Path) -> None:
    sample = SampleStore(tmp_path, catalog)
    point = sample.add(WRITES)
    found_damage(sample, point, (0, 65536))
    report = vm_report("db", disk_report(bitmaps=[bitmap(point.id)]))
    assert planned(sample, report) == (Level.FULL, None, f"the layer of point {point.id} is damaged")


def test_nothing_is_laid_on_a_layer_that_cannot_be_opened(catalog: Catalog, tmp_path: Path) -> None:
    sample = SampleStore(tmp_path, catalog)
    first, second, third = (sample.add(WRITES) for dummy in range(3))
    found_damage(sample, second, useless=True)
    level, parent, reason = planned(sample, able_report(third.id, healthy=True))
    assert (level, parent) == (Level.RESYNC, first.id)
    assert reason.startswith(f"the layer of point {second.id} is damaged; only what differs from")


def test_damage_that_could_not_be_placed_any_more_is_compared_with(catalog: Catalog, tmp_path: Path) -> None:
    """Without the table of the layer above nobody knows what that masks."""
    sample = SampleStore(tmp_path, catalog)
    first, second = sample.add(WRITES), sample.add(WRITES)
    found_damage(sample, first, (0, 65536))
    sample.layer(second).with_suffix(".digests").unlink()
    level, dummy, reason = planned(sample, able_report(second.id, healthy=True))
    assert level is Level.FULL
    assert reason.startswith(f"the layer of point {first.id} is damaged; it cannot be compared with")
