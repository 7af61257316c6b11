# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes of recovery plans: how the VMs of a group are brought up."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, status

from livebackup_receiver import recovery_plans
from livebackup_receiver.api.auth import MayManage, MayRead, ReceiverOf
from livebackup_receiver.catalog.recovery_plans import require_plan
from livebackup_receiver.clock import now
from livebackup_receiver.completion import complete_in_thread
from livebackup_receiver.recovery.declared import DeclaredPlan
from livebackup_receiver.recovery.plan import RecoveryPlan

router = APIRouter(prefix="/api/v1/groups/{group}/recovery-plan", tags=["recovery"])


@router.get("")
def show_recovery_plan(group: str, receiver: ReceiverOf, token: MayRead) -> DeclaredPlan:
    """The plan of a group; 404 if it has none, which is brought up by the defaults."""
    with receiver.catalog.read() as db:
        return require_plan(db, group)


@router.put("")
async def declare_recovery_plan(
    group: str, plan: RecoveryPlan, receiver: ReceiverOf, token: MayManage, dry_run: bool = False
) -> DeclaredPlan:
    """Have a plan for a group, which need not have been backed up yet; `dry_run`: say what it would be."""
    if dry_run:
        known = await asyncio.to_thread(recovery_plans.known_plans, receiver.catalog)
        return recovery_plans.propose_plan(known, group, plan, now=now())
    return await complete_in_thread(
        recovery_plans.declare_plan, receiver.catalog, receiver.store, group, plan, now=now()
    )


@router.delete("", status_code=status.HTTP_204_NO_CONTENT)
async def withdraw_recovery_plan(group: str, receiver: ReceiverOf, token: MayManage) -> None:
    """Leave a group without a plan."""
    await complete_in_thread(recovery_plans.withdraw_plan, receiver.catalog, receiver.store, group)
