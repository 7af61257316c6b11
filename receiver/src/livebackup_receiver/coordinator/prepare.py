# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the participants' reports to their plans: levels, room, and what each host is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.layer_checks import bad_checks
from livebackup_receiver.catalog.points import DiskPoint, group_members, points_of_vms
from livebackup_receiver.coordinator import heads
from livebackup_receiver.coordinator.orders import Plan, PlannedDisk, PlannedVm
from livebackup_receiver.coordinator.plan import Ancestor, Comparison, decide, plan_host
from livebackup_receiver.coordinator.recovery import remove_leftovers
from livebackup_receiver.coordinator.reports import DiskReport, VmReport
from livebackup_receiver.model import Session, Transfer, Transport
from livebackup_receiver.scrub.finding import LayerCheck
from livebackup_receiver.scrub.harm import Harm
from livebackup_receiver.scrub.known import harms_of
from livebackup_receiver.storage_daemon.layers import NewLayer
from livebackup_receiver.store import room, volumes
from livebackup_receiver.store.paths import Store

Reports = Mapping[str, Sequence[VmReport]]
Ancestors = Mapping[tuple[str, str], Sequence[Ancestor]]


def find_ancestors(catalog: Catalog, store: Store, reports: Reports) -> Ancestors:
    """The committed points of every disk; reads the catalog, and looks for the layers of tracked disks.

    Of a disk that may need a resync, or that has damaged layers, the digest tables are read too.
    """
    vms = {vm.vm for each in reports.values() for vm in each}
    with catalog.read() as db:
        found, checks = points_of_vms(db, vms), bad_checks(db, vms)
    return {
        (vm.vm, disk.disk): _ancestors(
            vm, disk, found.get((vm.vm, disk.disk), []), checks.get((vm.vm, disk.disk), {}), store
        )
        for each in reports.values()
        for vm in each
        # of two disks of one name, the tracked one counts
        for disk in sorted(vm.disks, key=lambda each: each.tracked)
    }


def _ancestors(
    vm: VmReport,
    disk: DiskReport,
    points: Sequence[DiskPoint],
    checks: Mapping[str, LayerCheck],
    store: Store,
) -> list[Ancestor]:
    if not disk.tracked:
        return [
            Ancestor(each.point, each.virtual_size, present=False, dropped=each.dropped) for each in points
        ]
    harm = harms_of(points, checks, store.disk(vm.vm, disk.disk)) if checks else {}
    found = [_ancestor(each, harm.get(each.point), store) for each in points]
    decision = decide(disk, found, Comparison(vm.can_resync, vm.resync_lacks))
    if decision.head is None:
        return found
    obstacle = heads.obstacle(points, store, head=decision.head)
    return [replace(each, undigested=obstacle) if each.point == decision.head else each for each in found]


def _ancestor(point: DiskPoint, harm: Harm | None, store: Store) -> Ancestor:
    return Ancestor(
        point.point,
        point.virtual_size,
        present=(store.root / point.layer).exists() and not (harm and harm.clusters is None),
        dropped=point.dropped,
        damaged=f"the layer of point {harm.layers[0]} is damaged" if harm else None,
    )


def find_members(catalog: Catalog, group: str) -> dict[str, str]:
    """The VMs that are expected of a group, each with the host it was on; reads the catalog."""
    with catalog.read() as db:
        return group_members(db, group)


def plan_session(reports: Reports, ancestors: Ancestors) -> list[Transfer]:
    """The transfers of all hosts; pure."""
    return [transfer for host, vms in reports.items() for transfer in plan_host(host, vms, ancestors)]


def needed_bytes(transfers: Sequence[Transfer], reports: Reports) -> dict[tuple[str, str], int]:
    """What each planned disk will probably store; pure."""
    allocated = {
        (vm.vm, disk.disk): disk.allocated_bytes
        for vms in reports.values()
        for vm in vms
        for disk in vm.tracked_disks
    }
    return {
        (each.vm, each.disk): room.planned_bytes(each, allocated_bytes=allocated[each.vm, each.disk])
        for each in transfers
    }


def make_directories(
    catalog: Catalog, store: Store, transfers: Sequence[Transfer], homes: Mapping[tuple[str, str], Path]
) -> None:
    """Make the directories of planned disks, and remove what an earlier session may have left in them.

    :param homes: the volume of each disk
    """
    for each in transfers:
        volumes.make_home(store, (each.vm, each.disk), homes[each.vm, each.disk])
    remove_leftovers(catalog, store, [store.disk(each.vm, each.disk).path for each in transfers])


def new_layers(store: Store, point: str, transfers: Sequence[Transfer]) -> dict[tuple[str, str], NewLayer]:
    """The layer that each transfer fills; pure."""
    return {
        (each.vm, each.disk): NewLayer(
            path=store.disk(each.vm, each.disk).partial(point),
            virtual_size=each.virtual_size,
            parent=store.disk(each.vm, each.disk).layer(each.parent) if each.parent else None,
        )
        for each in transfers
    }


def plan_for(
    host: str,
    session: Session,
    *,
    stop_budget_s: float,
    transport: Transport,
    exports: Mapping[tuple[str, str], str],
) -> Plan:
    """One host's part of a planned session; pure.

    :param exports: the NBD export name of each (VM, disk)
    """
    mine = [each for each in session.disks if each.host == host]
    return Plan(
        point=session.id,
        consistency=session.consistency,
        stop_budget_s=stop_budget_s,
        transport=transport,
        vms=[
            PlannedVm(vm=vm, disks=[_planned_disk(each, exports) for each in mine if each.vm == vm])
            for vm in dict.fromkeys(each.vm for each in mine)
        ],
    )


def _planned_disk(transfer: Transfer, exports: Mapping[tuple[str, str], str]) -> PlannedDisk:
    return PlannedDisk(
        disk=transfer.disk,
        level=transfer.level,
        level_reason=transfer.level_reason,
        parent=transfer.parent,
        export=exports[transfer.vm, transfer.disk],
        virtual_size=transfer.virtual_size,
    )
