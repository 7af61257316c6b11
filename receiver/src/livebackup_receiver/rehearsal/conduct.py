# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rehearsal from the order to what is kept of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from livebackup_receiver.catalog import points, rehearsals
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.recovery_plans import find_plan
from livebackup_receiver.clock import now
from livebackup_receiver.completion import complete_in_thread
from livebackup_receiver.config import Config
from livebackup_receiver.errors import ManifestInvalid, NoPoint, VmUnknown
from livebackup_receiver.errors.unknown import among
from livebackup_receiver.model import Outcome
from livebackup_receiver.recovery.plan import RecoveryPlan
from livebackup_receiver.rehearsal import kept
from livebackup_receiver.rehearsal.result import Rehearsal
from livebackup_receiver.rehearsal.run import Found, OnLine, Order, chosen, perform
from livebackup_receiver.rehearsal.workplace import sweep
from livebackup_receiver.store.paths import Store

log = logging.getLogger(__name__)

STOPPED = "it was stopped before it was done"


def newest_complete(catalog: Catalog, group: str) -> str:
    """The point of a group that is rehearsed if none is named.

    :raise GroupUnknown: there is no such group
    :raise NoPoint: it has no complete point
    """
    with catalog.read() as db:
        found = points.newest_complete_id(db, group)
    if found is None:
        raise NoPoint(group)
    return found


def order_of(catalog: Catalog, rehearsal: str, point: str, vms: Sequence[str] = ()) -> Order:
    """What is to be done for a rehearsal of a point, by the plan of its group.

    :param vms: only these, with all that they come after
    :raise PointUnknown: there is no such point
    :raise VmUnknown: it does not hold one of the VMs
    """
    with catalog.read() as db:
        found = points.load_point(db, point)
        declared = find_plan(db, found.group)
    held = {each.vm for each in found.vms}
    for vm in vms:
        if vm not in held:
            raise VmUnknown(vm, f"point {point}", among(held))
    plan = declared.plan if declared else RecoveryPlan()
    return Order(rehearsal, found, plan, chosen(found, plan, vms))


async def rehearse(order: Order, config: Config, catalog: Catalog, on_line: OnLine) -> Rehearsal:
    """Do it, and keep what was found; if cancelled, that is that it could not run.

    :raise OSError: the result cannot be kept
    """
    store, started = Store(config.store), now()
    await asyncio.to_thread(sweep, store)
    try:
        found = await perform(order, config, catalog, on_line)
    except asyncio.CancelledError:
        found = Found(Outcome.COULD_NOT_RUN, STOPPED)
    result = Rehearsal(
        id=order.id,
        group=order.point.group,
        point=order.point.id,
        vms=list(order.vms),
        whole=order.whole,
        outcome=found.outcome,
        reason=found.reason,
        accelerator=found.accelerator,
        started_at=started,
        ended_at=now(),
        members=found.members,
    )
    await complete_in_thread(record, catalog, store, result, found.logs, most=config.rehearsals_kept)
    return result


def record(catalog: Catalog, store: Store, result: Rehearsal, logs: dict[str, bytes], *, most: int) -> None:
    """Keep a result in the store and then in the catalog, and of its group only the newest so many."""
    kept.keep(store, result, logs)
    with catalog.write() as db:
        rehearsals.record_rehearsal(db, result)
        old = rehearsals.beyond(db, result.group, most)
        rehearsals.forget_rehearsals(db, old)
    kept.forget(store, old)


def recover_rehearsals(catalog: Catalog, store: Store) -> None:
    """Bring to the catalog what the store alone knows, and remove what killed rehearsals have left."""
    sweep(store)
    names = kept.list_kept(store)
    kept.remove_partial(store)
    with catalog.read() as db:
        known = rehearsals.recorded(db)
    fresh = [result for each in names if each not in known and (result := _readable(store, each))]
    with catalog.write() as db:
        for each in fresh:
            rehearsals.record_rehearsal(db, each)
        rehearsals.forget_rehearsals(db, known - set(names))


def _readable(store: Store, rehearsal: str) -> Rehearsal | None:
    try:
        return kept.read_result(store, rehearsal)
    except ManifestInvalid as error:
        log.warning("%s", error)
        return None
