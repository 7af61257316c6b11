# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a disk held at its head, in digests, for hosts that compare it with what it holds now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.layer_checks import bad_checks
from livebackup_receiver.catalog.points import DiskPoint, disk_points
from livebackup_receiver.errors import DigestsInvalid, NoResync, ReceiverError
from livebackup_receiver.model import Level, Session
from livebackup_receiver.scrub import quarantine
from livebackup_receiver.scrub.finding import LayerCheck
from livebackup_receiver.store import digests
from livebackup_receiver.store.paths import Store


def obstacle(points: Sequence[DiskPoint], store: Store, *, head: str) -> str | None:
    """Why nobody can compare with a point, if so; reads the digest tables of its whole chain.

    :param points: all committed points of the disk
    """
    try:
        digests.read_chain(tables_of(points, store, head=head))
    except ReceiverError as error:
        return error.cause
    return None


def tables_of(points: Sequence[DiskPoint], store: Store, *, head: str) -> list[Path]:
    """The digest tables of a point's chain, the full one's first.

    :raise DigestsInvalid: a layer of the chain is missing
    """
    known = {each.point: each for each in points}
    chain: list[Path] = []
    wanted: str | None = head
    while wanted is not None:
        point = known.get(wanted)
        if point is None or not (store.root / point.layer).exists():
            raise DigestsInvalid(f"of point {wanted}", "its layer is missing")
        chain.append(store.disk(point.vm, point.disk).digests(wanted))
        wanted = point.parent
    return chain[::-1]


def composed_digests(
    session: Session, host: str, vm: str, disk: str, *, catalog: Catalog, store: Store
) -> Iterator[bytes]:
    """The digests of what a disk held at the head that its plan names; see ``store.digests.frames``.

    Where the layers are damaged there is a digest that no content has.

    :raise NoResync: the session is not open, or does not resynchronize this disk on this host
    :raise DigestsInvalid: a table cannot be used
    """
    head = next(
        (
            each.parent
            for each in session.disks
            if (each.host, each.vm, each.disk, each.level) == (host, vm, disk, Level.RESYNC)
        ),
        None,
    )
    if session.state.ended or head is None:
        raise NoResync(vm, disk, host, session.id)
    with catalog.read() as db:
        points = disk_points(db, vm, disk)
        checks = bad_checks(db, {vm}).get((vm, disk), {})
    return digests.frames(_without_damage(tables_of(points, store, head=head), checks))


def _without_damage(paths: Sequence[Path], checks: Mapping[str, LayerCheck]) -> list[digests.Table]:
    """The tables of a chain, in which nothing matches what is damaged: so that is sent again."""
    tables: list[digests.Table] = []
    for path, table in zip(paths, digests.read_chain(paths), strict=True):
        tables.append(table)
        if (check := checks.get(path.stem)) and check.ranges:
            tables.append(quarantine.over(table, check.ranges))
    return tables
