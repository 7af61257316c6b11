# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Retention policies in the catalog; the store has them first, see ``store.policies``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session as Database

from livebackup_receiver.catalog.points import KEPT
from livebackup_receiver.catalog.schema import PointRow, PointVmRow, PolicyRow
from livebackup_receiver.retention.declared import DeclaredPolicy
from livebackup_receiver.retention.policy import RetentionPolicy, Scope, ScopeKind


def load_policies(db: Database) -> list[DeclaredPolicy]:
    """All policies, by scope."""
    return [
        DeclaredPolicy(
            scope=row.scope, policy=RetentionPolicy.model_validate(row.policy), changed_at=row.changed_at
        )
        for row in db.scalars(select(PolicyRow).order_by(PolicyRow.scope))
    ]


def save_policies(db: Database, policies: Iterable[DeclaredPolicy]) -> None:
    """Have these policies in place of all that were."""
    db.execute(delete(PolicyRow))
    db.add_all(
        PolicyRow(scope=each.scope, policy=each.policy.model_dump(), changed_at=each.changed_at)
        for each in policies
    )


def groups_in(db: Database, scopes: Sequence[Scope]) -> list[str]:
    """The groups that have points which any of the scopes may be for, by name."""
    groups = [scope.name for scope in scopes if scope.kind is ScopeKind.GROUP]
    vms = [scope.name for scope in scopes if scope.kind is not ScopeKind.GROUP]
    query = select(PointRow.group).where(KEPT).distinct()
    by_name = query.where(PointRow.group.in_(groups))
    by_vm = query.join(PointVmRow, PointVmRow.point_id == PointRow.id).where(PointVmRow.vm.in_(vms))
    return sorted({*db.scalars(by_name), *db.scalars(by_vm)})
