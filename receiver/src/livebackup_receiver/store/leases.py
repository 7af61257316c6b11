# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Points that a running VM is still read from: one file for each lease, ``<store>/leases/<id>.json``.

The store alone has them, so that neither a restart nor a new catalog forgets one. Who lives from a lease may
be down for weeks, so it ends by release, or by its date, which every use puts off.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from livebackup_receiver.errors import ManifestInvalid
from livebackup_receiver.model import Model, Moment, rfc3339
from livebackup_receiver.store import durable
from livebackup_receiver.store.paths import MANIFEST_SUFFIX, POINT, Store


class Lease(Model):
    """Disks of a VM at a point that must stay readable until ``expires_at``; every use puts that off.

    :param holder: the host that reads them
    :param secret_digest: SHA-256 (hex) of what the holder proves itself with
    """

    format_version: Literal[1] = 1
    id: str
    point: str
    vm: str
    disks: list[str]
    holder: str
    secret_digest: str
    taken_at: Moment
    used_at: Moment
    expires_at: Moment

    @property
    def words(self) -> str:
        """Why its point is kept."""
        return f"in use by an instant restore of {self.vm} on {self.holder} since {rfc3339(self.taken_at)}"


def write_lease(store: Store, lease: Lease) -> None:
    """Keep a lease durably, in place of what it was."""
    durable.make_directory(store.leases)
    content = (lease.model_dump_json(indent=2) + "\n").encode()
    durable.write_file(store.lease(lease.id), content)


def remove_lease(store: Store, lease: str) -> None:
    """Forget a lease durably; there may be none."""
    if store.leases.is_dir():
        durable.remove_files([store.lease(lease)])
        durable.sync_directory(store.leases)


def read_leases(store: Store) -> list[Lease]:
    """Every lease of the store, oldest first; some may have expired.

    :raise ManifestInvalid: one cannot be read; then nobody may decide what is dropped
    """
    found = sorted(store.leases.glob(f"*{MANIFEST_SUFFIX}")) if store.leases.is_dir() else []
    return [_read(path) for path in found if POINT.fullmatch(path.stem)]


def in_use(leases: Iterable[Lease], now: datetime) -> dict[str, list[str]]:
    """Why points are in use, by point; pure."""
    found: dict[str, list[str]] = {}
    for lease in leases:
        if lease.expires_at > now:
            found.setdefault(lease.point, []).append(lease.words)
    return found


def _read(path: Path) -> Lease:
    try:
        return Lease.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ManifestInvalid(str(path), error.strerror or str(error)) from None
    except ValidationError as error:
        raise ManifestInvalid(str(path), error.errors()[0]["msg"]) from None
