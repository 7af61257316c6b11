# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores of a sample store's points in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sample_store import SampleStore

from livebackup_receiver.catalog.points import disk_chain
from livebackup_receiver.convert import Format
from livebackup_receiver.errors import PointDamaged
from livebackup_receiver.model import Point
from livebackup_receiver.restore import DiskRestore, RestorePlan, Stage, Wish, plan_restore, select
from livebackup_receiver.restoring.act import restore
from livebackup_receiver.restoring.manner import Manner, Restored
from livebackup_receiver.scrub.finding import Finding, Result
from livebackup_receiver.scrub.known import refusal_of
from livebackup_receiver.store.paths import Store
from livebackup_receiver.store.ranges import Range

DISK = ("db", "vd-a")


def plan(
    store: SampleStore,
    point: Point,
    directory: Path,
    format: Format = Format.QCOW2,
    wish: Wish | None = None,
) -> RestorePlan:
    wish = wish or Wish()
    with store.catalog.read() as db:
        chains = {
            (vm, disk): disk_chain(db, point=point.id, vm=vm, disk=disk) for vm, disk in select(point, wish)
        }
    return plan_restore(point, chains, store=store.root, directory=directory, format=format, name=wish.name)


async def act(
    plan: RestorePlan,
    manner: Manner | None = None,
    *,
    store: SampleStore | None = None,
    told: list[tuple[str, int, int]] | None = None,
) -> list[Restored]:
    """Restore; ``told`` gets the progress: stage, bytes done, bytes expected."""

    def judge(disk: DiskRestore, found: Mapping[str, Sequence[Range]]) -> PointDamaged:
        if store is None:
            ((dummy, ranges),) = found.items()
            where = f"bytes {ranges[0][0]} to {ranges[0][0] + ranges[0][1]}"
            return PointDamaged(plan.point, disk.vm, disk.disk, where, "another copy")
        findings = {
            layer: Finding(result=Result.DAMAGED, ranges=list(ranges)) for layer, ranges in found.items()
        }
        return refusal_of(store.catalog, Store(store.root), plan.point, disk.vm, disk.disk, findings)

    def tell(disk: DiskRestore, stage: Stage, done: int, total: int) -> None:
        if told is not None:
            told.append((stage, done, total))

    return await restore(plan, manner or Manner(), judge=judge, on_progress=tell)
