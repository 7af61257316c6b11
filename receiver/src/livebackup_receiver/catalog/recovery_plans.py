# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recovery plans in the catalog; the store has them first, see ``store.recovery_plans``."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import delete, select
from sqlalchemy.orm import Session as Database

from livebackup_receiver.catalog.schema import RecoveryPlanRow
from livebackup_receiver.errors import RecoveryPlanUnknown
from livebackup_receiver.recovery.declared import DeclaredPlan
from livebackup_receiver.recovery.plan import RecoveryPlan


def load_plans(db: Database) -> list[DeclaredPlan]:
    """All plans, by group."""
    return [_declared(row) for row in db.scalars(select(RecoveryPlanRow).order_by(RecoveryPlanRow.group))]


def find_plan(db: Database, group: str) -> DeclaredPlan | None:
    """The plan of a group, if it has one."""
    row = db.get(RecoveryPlanRow, group)
    return _declared(row) if row else None


def require_plan(db: Database, group: str) -> DeclaredPlan:
    """:raise RecoveryPlanUnknown: the group has none"""
    found = find_plan(db, group)
    if found is None:
        raise RecoveryPlanUnknown(group)
    return found


def save_plans(db: Database, plans: Iterable[DeclaredPlan]) -> None:
    """Have these plans in place of all that were."""
    db.execute(delete(RecoveryPlanRow))
    db.add_all(
        RecoveryPlanRow(group=each.group, plan=each.plan.model_dump(mode="json"), changed_at=each.changed_at)
        for each in plans
    )


def _declared(row: RecoveryPlanRow) -> DeclaredPlan:
    return DeclaredPlan(
        group=row.group, plan=RecoveryPlan.model_validate(row.plan), changed_at=row.changed_at
    )
