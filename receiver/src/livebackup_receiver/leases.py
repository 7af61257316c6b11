# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases: points that VMs are read from, kept for as long; see ``store.leases``.

A lease has a secret of its own, which opens nothing but exports of these disks and the end of the lease, so a
hypervisor needs to keep no token. What a lease reads is opened anew with every export: chains may be merged
meanwhile, as their content stays.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections.abc import Callable, Sequence
from datetime import timedelta

from ulid import ULID

from livebackup_receiver.catalog import tokens
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.points import load_point
from livebackup_receiver.clock import now
from livebackup_receiver.decisions import TURN
from livebackup_receiver.errors import ExportUnknown, LeaseUnknown, TokenInvalid
from livebackup_receiver.exports import Export, LiveExports, Wanted
from livebackup_receiver.restore import on_newest_chain, select_disks
from livebackup_receiver.store.leases import Lease, read_leases, remove_lease, write_lease
from livebackup_receiver.store.paths import Store

log = logging.getLogger(__name__)

# A use is written down at most this often.
RENEWAL = timedelta(hours=1)
SECRET_BYTES = 32


def take_lease(
    catalog: Catalog,
    store: Store,
    *,
    point: str,
    vm: str,
    disks: Sequence[str] | None,
    holder: str,
    ttl: timedelta,
) -> tuple[Lease, str]:
    """Keep a point for a VM that is read from it; the secret is returned here and never again.

    :raise PointUnknown: the point does not exist
    :raise VmUnknown: the point does not hold the VM
    :raise DiskUnknown: the point does not hold one of the disks
    """
    secret = secrets.token_urlsafe(SECRET_BYTES)
    with TURN:
        with catalog.read() as db:
            chosen = select_disks(load_point(db, point), vm, disks)
        moment = now()
        lease = Lease(
            id=str(ULID()),
            point=point,
            vm=vm,
            disks=[disk.disk for disk in chosen],
            holder=holder,
            secret_digest=tokens.digest(secret),
            taken_at=moment,
            used_at=moment,
            expires_at=moment + ttl,
        )
        write_lease(store, lease)
    return lease, secret


def load_leases(store: Store) -> list[Lease]:
    """The leases that have not expired, oldest first."""
    moment = now()
    return [lease for lease in read_leases(store) if lease.expires_at > moment]


def find_lease(store: Store, lease_id: str) -> Lease:
    """:raise LeaseUnknown: there is none, or it has expired"""
    for lease in load_leases(store):
        if lease.id == lease_id:
            return lease
    raise LeaseUnknown(lease_id)


def release_lease(store: Store, lease_id: str) -> None:
    """Leave the point to the policies again.

    :raise LeaseUnknown: there is none, or it has expired
    """
    with TURN:
        remove_lease(store, find_lease(store, lease_id).id)


def sweep_leases(store: Store) -> None:
    """Remove the files of leases that have expired."""
    moment = now()
    with TURN:
        for lease in read_leases(store):
            if lease.expires_at <= moment:
                log.warning("lease %s: expired, %s; last used %s", lease.id, lease.words, lease.used_at)
                remove_lease(store, lease.id)


def prove(lease: Lease, secret: str | None) -> None:
    """:raise TokenInvalid: it is not the lease's secret"""
    if not secret or not hmac.compare_digest(tokens.digest(secret), lease.secret_digest):
        raise TokenInvalid("this needs the secret of the lease")


class LiveLeases:
    """What is served of leases; belongs to one event loop."""

    def __init__(self, store: Store, exports: LiveExports, ttl: timedelta) -> None:
        self._store = store
        self._exports = exports
        self._ttl = ttl
        self._served: dict[str, str] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def export(self, lease: Lease, find: Callable[[], Wanted]) -> Export:
        """Serve a lease's disks, in place of what was served of it before.

        :raise LeaseUnknown: it was released meanwhile
        """
        await asyncio.to_thread(self.renew, lease.id)
        made = await on_newest_chain(find, self._exports.open)
        # the one before may hang, and nobody needs to wait for its end
        if before := self._served.pop(lease.id, None):
            self._close(before)
        self._served[lease.id] = made.id
        try:
            await asyncio.to_thread(find_lease, self._store, lease.id)
        except LeaseUnknown:
            self._close(self._served.pop(lease.id))
            raise
        return made

    async def release(self, lease_id: str) -> None:
        """End a lease and cut off who reads from it.

        :raise LeaseUnknown: there is none, or it has expired
        """
        await asyncio.to_thread(release_lease, self._store, lease_id)
        if export := self._served.pop(lease_id, None):
            self._close(export)

    def renew(self, lease_id: str) -> None:
        """Put the end of a lease off, because it is used.

        :raise LeaseUnknown: there is none, or it has expired
        """
        with TURN:
            lease, moment = find_lease(self._store, lease_id), now()
            if moment - lease.used_at >= min(RENEWAL, self._ttl / 10):
                put_off = {"used_at": moment, "expires_at": max(lease.expires_at, moment + self._ttl)}
                write_lease(self._store, lease.model_copy(update=put_off))

    def _close(self, export: str) -> None:
        task = asyncio.create_task(self._close_unless_gone(export), name=f"close export {export}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close_unless_gone(self, export: str) -> None:
        try:
            await self._exports.close(export)
        except ExportUnknown:
            log.debug("export %s has ended by itself", export)
