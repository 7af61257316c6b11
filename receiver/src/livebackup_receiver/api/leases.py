# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes of leases: points that VMs are read from, and are kept for as long."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Request, status
from pydantic import Field

from livebackup_receiver.api.auth import MayRead, MayRestore, ReceiverOf, authenticate, secret_of
from livebackup_receiver.completion import complete_in_thread
from livebackup_receiver.errors import LeaseUnknown, RoleDenied, TokenInvalid
from livebackup_receiver.exports import Export, find_wanted
from livebackup_receiver.leases import find_lease, load_leases, prove, take_lease
from livebackup_receiver.model import Model, Moment, Role
from livebackup_receiver.state import Receiver
from livebackup_receiver.store.leases import Lease

router = APIRouter(prefix="/api/v1", tags=["leases"])

MAY_RELEASE = (Role.RESTORE, Role.MANAGE)


class Leasing(Model):
    """What to keep readable: disks of a VM, null: all of them; and for which host."""

    vm: str
    disks: Annotated[list[str], Field(min_length=1)] | None = None
    holder: Annotated[str, Field(min_length=1, max_length=200)]


class TakenLease(Model):
    """A new lease; its secret is in this answer and nowhere else."""

    id: str
    secret: str
    point: str
    vm: str
    disks: list[str]
    expires_at: Moment


class ShownLease(Model):
    """A lease as everybody may see it."""

    id: str
    point: str
    vm: str
    disks: list[str]
    holder: str
    taken_at: Moment
    used_at: Moment
    expires_at: Moment


class Leases(Model):
    leases: list[ShownLease]


@router.post("/points/{point_id}/leases", status_code=status.HTTP_201_CREATED)
async def take(point_id: str, leasing: Leasing, receiver: ReceiverOf, token: MayRestore) -> TakenLease:
    """Keep a point for a VM that is read from it, until the lease is released or unused for long."""
    lease, secret = await complete_in_thread(
        take_lease,
        receiver.catalog,
        receiver.store,
        point=point_id,
        vm=leasing.vm,
        disks=leasing.disks,
        holder=leasing.holder,
        ttl=timedelta(seconds=receiver.config.lease_ttl_s),
    )
    return TakenLease(secret=secret, **lease.model_dump(include=set(TakenLease.model_fields)))


@router.get("/leases")
def list_leases(receiver: ReceiverOf, token: MayRead) -> Leases:
    """The leases there are, oldest first."""
    found = load_leases(receiver.store)
    return Leases(leases=[shown_lease(lease) for lease in found])


@router.post("/leases/{lease_id}/exports", status_code=status.HTTP_201_CREATED)
async def export_lease(lease_id: str, request: Request, receiver: ReceiverOf) -> Export:
    """Serve a lease's disks in place of what was served of it before; the token is the lease's secret."""
    lease = await asyncio.to_thread(_proven, receiver, lease_id, secret_of(request))
    on_read = partial(_renew, receiver, lease_id)
    plan = partial(find_wanted, receiver.catalog, receiver.store, lease.point, lease.vm, lease.disks)
    return await receiver.leases.export(lease, partial(plan, on_read=on_read))


@router.delete("/leases/{lease_id}", status_code=status.HTTP_204_NO_CONTENT)
async def release(lease_id: str, request: Request, receiver: ReceiverOf) -> None:
    """End a lease; takes its secret, or a token with the role restore or manage."""
    secret = secret_of(request)
    try:
        await asyncio.to_thread(_proven, receiver, lease_id, secret)
    except TokenInvalid:
        token = await authenticate(request, secret)
        if token.role not in MAY_RELEASE:
            raise RoleDenied(token.name, token.role, " or ".join(MAY_RELEASE)) from None
    await receiver.leases.release(lease_id)


def shown_lease(lease: Lease) -> ShownLease:
    """What everybody may see of a lease."""
    return ShownLease(**lease.model_dump(include=set(ShownLease.model_fields)))


def _proven(receiver: Receiver, lease_id: str, secret: str | None) -> Lease:
    """:raise TokenInvalid: it is not this lease's secret, or there is no such lease"""
    if secret is None:
        raise TokenInvalid("this needs the secret of the lease")
    lease = find_lease(receiver.store, lease_id)
    prove(lease, secret)
    return lease


def _renew(receiver: Receiver, lease_id: str) -> None:
    # it may have been released since
    with suppress(LeaseUnknown):
        receiver.leases.renew(lease_id)
