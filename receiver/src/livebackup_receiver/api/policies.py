# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes of policies: what is to be kept of a group, a VM or a disk."""

from __future__ import annotations

from fastapi import APIRouter, status

from livebackup_receiver.api.auth import MayManage, MayRead, ReceiverOf
from livebackup_receiver.completion import complete_in_thread
from livebackup_receiver.model import Model
from livebackup_receiver.retention.declared import DeclaredPolicy
from livebackup_receiver.retention.policy import RetentionPolicy

router = APIRouter(prefix="/api/v1/policies", tags=["retention"])


class Policies(Model):
    policies: list[DeclaredPolicy]


@router.get("")
def list_policies(receiver: ReceiverOf, token: MayRead) -> Policies:
    """Every policy, by scope."""
    return Policies(policies=receiver.retention.policies())


# The scope of a disk has a slash in it.
@router.put("/{scope:path}")
async def declare_policy(
    scope: str, policy: RetentionPolicy, receiver: ReceiverOf, token: MayManage
) -> DeclaredPolicy:
    """Have a policy for a scope such as `group:nightly`, `vm:db1` or `disk:db1/virtio0`.

    Nothing is dropped by this request. Points that no rule keeps any more go when retention is applied next.
    """
    return await complete_in_thread(receiver.retention.declare, scope, policy)


@router.delete("/{scope:path}", status_code=status.HTTP_204_NO_CONTENT)
async def withdraw_policy(scope: str, receiver: ReceiverOf, token: MayManage) -> None:
    """Leave a scope without a policy; points that no policy is for are kept."""
    await complete_in_thread(receiver.retention.withdraw, scope)
