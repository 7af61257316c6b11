# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The route of the order in which the VMs of a point are brought up; read only."""

from __future__ import annotations

from fastapi import APIRouter

from livebackup_receiver.api.auth import MayRead, ReceiverOf
from livebackup_receiver.catalog.points import load_point
from livebackup_receiver.catalog.recovery_plans import find_plan
from livebackup_receiver.model import Model
from livebackup_receiver.recovery.order import stages
from livebackup_receiver.recovery.plan import PlannedMember, RecoveryPlan

router = APIRouter(prefix="/api/v1/points", tags=["recovery"])


class OrderedVm(Model):
    """A VM in its stage; ``timeout_s``: how long it may take until it is ready, in seconds."""

    vm: str
    host: str
    after: list[str]
    timeout_s: float


class RecoveryOrder(Model):
    """The VMs of a point in stages: those of a stage are brought up together, after all before it."""

    point: str
    group: str
    stages: list[list[OrderedVm]]


@router.get("/{point_id}/recovery-order")
def get_recovery_order(point_id: str, receiver: ReceiverOf, token: MayRead) -> RecoveryOrder:
    """By the recovery plan of the point's group; without one all VMs are of one stage."""
    with receiver.catalog.read() as db:
        point = load_point(db, point_id)
        declared = find_plan(db, point.group)
    plan = declared.plan if declared else RecoveryPlan()
    hosts = {each.vm: each.host for each in point.vms}
    return RecoveryOrder(
        point=point.id,
        group=point.group,
        stages=[[_ordered(plan.member(vm), hosts) for vm in stage] for stage in stages(plan, hosts)],
    )


def _ordered(member: PlannedMember, hosts: dict[str, str]) -> OrderedVm:
    after = [each for each in member.after if each in hosts]
    return OrderedVm(vm=member.vm, host=hosts[member.vm], after=after, timeout_s=member.ready.timeout_s)
