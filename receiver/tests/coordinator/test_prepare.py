# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

from sample_records import transfer
from sample_reports import GIB, bitmap, disk_report, vm_report
from sample_steps import SESSION_ID, planned_session
from sample_store import SampleStore, Write

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.coordinator import prepare
from livebackup_receiver.coordinator.plan import Ancestor
from livebackup_receiver.model import Level, Transport
from livebackup_receiver.store.paths import Store

TRANSPORT = Transport(port=10810, psk_username="session-1", psk_key="00")


def test_ancestors_are_the_committed_points_whose_layers_may_be_gone(
    catalog: Catalog, tmp_path: Path
) -> None:
    sample = SampleStore(tmp_path, catalog)
    first = sample.add({("db", "vd-a"): [Write(0, 65536, 1)]})
    second = sample.add({("db", "vd-a"): [Write(65536, 65536, 2)]})
    store = Store(tmp_path)
    store.disk("db", "vd-a").layer(second.id).unlink()
    found = prepare.find_ancestors(catalog, store, {"hv1": [vm_report("db")]})
    size = first.vms[0].disks[0].virtual_size
    assert list(found["db", "vd-a"]) == [
        Ancestor(second.id, size, present=False),
        Ancestor(first.id, size, present=True),
    ]


def test_levels_are_per_disk() -> None:
    point = "01JD000000000000000000001A"
    report = vm_report("db", disk_report("vd-a", bitmaps=[bitmap(point)]), disk_report("vd-b"))
    ancestors = {("db", "vd-a"): [Ancestor(point, GIB, present=True)]}
    transfers = prepare.plan_session({"hv1": [report]}, ancestors)
    assert [(each.disk, each.level) for each in transfers] == [
        ("vd-a", Level.INCREMENTAL),
        ("vd-b", Level.FULL),
    ]


def test_needed_bytes_are_what_bitmaps_and_participants_say() -> None:
    reports = {"hv1": [vm_report("db", disk_report("vd-a"), disk_report("vd-b", allocated_bytes=7000))]}
    transfers = [
        transfer("db", "vd-a", level=Level.INCREMENTAL, dirty_bytes=300),
        transfer("db", "vd-b", level=Level.FULL),
    ]
    assert sum(prepare.needed_bytes(transfers, reports).values()) == 7300


def test_a_new_layer_stands_on_its_parent_in_the_same_directory(tmp_path: Path) -> None:
    parent = "01JD000000000000000000001A"
    layers = prepare.new_layers(Store(tmp_path), SESSION_ID, [transfer("db", "vd-a", parent=parent)])
    layer = layers["db", "vd-a"]
    assert layer.path == tmp_path / f"vms/db/vd-a/{SESSION_ID}.partial"
    assert layer.parent == tmp_path / f"vms/db/vd-a/{parent}.qcow2"


def test_a_host_is_told_of_its_own_vms_only() -> None:
    session = planned_session()
    exports = {(each.vm, each.disk): f"secret-{each.vm}" for each in session.disks}
    plan = prepare.plan_for("hv1", session, stop_budget_s=5, transport=TRANSPORT, exports=exports)
    assert [(vm.vm, vm.disks[0].export) for vm in plan.vms] == [("app", "secret-app"), ("db", "secret-db")]
    assert "secret-web" not in plan.model_dump_json()
