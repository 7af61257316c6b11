# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The route of groups; read only."""

from __future__ import annotations

from fastapi import APIRouter

from livebackup_receiver.api.auth import MayRead, ReceiverOf
from livebackup_receiver.catalog import groups
from livebackup_receiver.model import Group, Model

router = APIRouter(prefix="/api/v1/groups", tags=["groups"])


class Groups(Model):
    groups: list[Group]


@router.get("")
def list_groups(receiver: ReceiverOf, token: MayRead) -> Groups:
    """Every group by name, with its newest point and session."""
    with receiver.catalog.read() as db:
        return Groups(groups=groups.list_groups(db))
