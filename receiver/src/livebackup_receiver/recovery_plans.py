# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declaring how groups are brought up. Plans are in the store first, and then in the catalog."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.recovery_plans import load_plans, save_plans
from livebackup_receiver.decisions import TURN
from livebackup_receiver.errors import RecoveryPlanUnknown
from livebackup_receiver.recovery.declared import DeclaredPlan
from livebackup_receiver.recovery.plan import RecoveryPlan
from livebackup_receiver.store.paths import Store, check_name
from livebackup_receiver.store.recovery_plans import read_plans, write_plans


def declare_plan(
    catalog: Catalog, store: Store, group: str, plan: RecoveryPlan, *, now: datetime
) -> DeclaredPlan:
    """Have a plan for a group, in place of the one that it has; the same one again changes nothing.

    :raise NameInvalid: it is no name of a group
    """
    with TURN:
        known = known_plans(catalog)
        declared = propose_plan(known, group, plan, now=now)
        if declared is not known.get(group):
            _keep(catalog, store, (known | {group: declared}).values())
        return declared


def propose_plan(
    known: Mapping[str, DeclaredPlan], group: str, plan: RecoveryPlan, *, now: datetime
) -> DeclaredPlan:
    """The plan as it would be declared; the one that is known if it is the same.

    :raise NameInvalid: it is no name of a group
    """
    before = known.get(check_name("group", group))
    if before is not None and before.plan == plan:
        return before
    return DeclaredPlan(group=group, plan=plan, changed_at=now)


def withdraw_plan(catalog: Catalog, store: Store, group: str) -> None:
    """Leave a group without a plan.

    :raise RecoveryPlanUnknown: it has none
    """
    with TURN:
        known = known_plans(catalog)
        if known.pop(group, None) is None:
            raise RecoveryPlanUnknown(group)
        _keep(catalog, store, known.values())


def recover_plans(catalog: Catalog, store: Store) -> None:
    """Bring to the catalog what the store alone knows: a kill came between the two, or it is a new catalog.

    :raise ManifestInvalid: the file cannot be read
    """
    kept = read_plans(store)
    with catalog.write() as db:
        save_plans(db, kept)


def known_plans(catalog: Catalog) -> dict[str, DeclaredPlan]:
    """Every plan, by group."""
    with catalog.read() as db:
        return {each.group: each for each in load_plans(db)}


def _keep(catalog: Catalog, store: Store, plans: Iterable[DeclaredPlan]) -> None:
    ordered = sorted(plans, key=lambda each: each.group)
    write_plans(store, ordered)
    with catalog.write() as db:
        save_plans(db, ordered)
