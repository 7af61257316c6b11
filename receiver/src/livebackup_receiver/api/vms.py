# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The route of VMs; read only."""

from __future__ import annotations

from fastapi import APIRouter

from livebackup_receiver.api.auth import MayRead, ReceiverOf
from livebackup_receiver.catalog.trees import load_tree
from livebackup_receiver.tree import VmTree

router = APIRouter(prefix="/api/v1/vms", tags=["vms"])


@router.get("/{vm}/tree")
def get_tree(vm: str, receiver: ReceiverOf, token: MayRead) -> VmTree:
    """Which point of a VM lies on which; with several heads, if it was restored to an older one."""
    with receiver.catalog.read() as db:
        return load_tree(db, vm)
