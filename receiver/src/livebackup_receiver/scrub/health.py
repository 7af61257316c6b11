# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of the store's layers for people: for the checks, and for each disk of a point."""

from __future__ import annotations

from datetime import datetime

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.layer_checks import candidates, list_checks
from livebackup_receiver.catalog.points import disk_chain, disk_points
from livebackup_receiver.errors import DiskUnknown
from livebackup_receiver.model import Model, Moment, Point
from livebackup_receiver.scrub.finding import Result
from livebackup_receiver.scrub.known import harms_of, known_damage
from livebackup_receiver.scrub.verdict import Verdict, judge
from livebackup_receiver.store.paths import Store


class DiskState(Model):
    """What reading back has shown of one disk at a point; ``checked_at`` is of the longest unread layer."""

    vm: str
    disk: str
    state: str
    checked_at: Moment | None = None
    problem: str | None = None


def report(catalog: Catalog, store: Store, *, now: datetime, days: float) -> Verdict:
    """What is to be said of the whole store; reads the catalog, and digest tables if there is damage.

    :param days: in which the whole store should be read
    """
    damage = known_damage(catalog, store)
    with catalog.read() as db:
        layers = candidates(db)
    return judge(damage, layers, now=now, days=days)


def disk_states(catalog: Catalog, store: Store, point: Point) -> list[DiskState]:
    """What is known of every disk of a point."""
    return [_state(catalog, store, point.id, vm.vm, disk.disk) for vm in point.vms for disk in vm.disks]


def _state(catalog: Catalog, store: Store, point: str, vm: str, disk: str) -> DiskState:
    with catalog.read() as db:
        points = disk_points(db, vm, disk)
        try:
            chain = [each.point for each in disk_chain(db, point=point, vm=vm, disk=disk)]
        except DiskUnknown as error:
            return DiskState(vm=vm, disk=disk, state=Result.UNREADABLE, problem=error.cause)
        checks = {each.point: each for each in list_checks(db, vm=vm, disk=disk)}
    bad = {each: check for each, check in checks.items() if check.result is not Result.GOOD}
    harm = harms_of(points, bad, store.disk(vm, disk)).get(point)
    culprits = harm.layers if harm else [each for each in chain if each in bad and not bad[each].ranges]
    if culprits:
        worst = max((bad[each] for each in culprits), key=lambda check: check.result.severity)
        return DiskState(
            vm=vm, disk=disk, state=worst.result, checked_at=worst.checked_at, problem=worst.problem
        )
    times = [checks[each].checked_at for each in chain if each in checks]
    known = [time for time in times if time is not None]
    if len(known) < len(chain):
        return DiskState(vm=vm, disk=disk, state="never")
    return DiskState(vm=vm, disk=disk, state=Result.GOOD, checked_at=min(known))
