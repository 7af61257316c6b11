# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalog's points out of the manifests alone, for when the catalog is lost.

A point comes back when every layer that its manifests name is there with its manifest; then all of
it is durable, whether or not the lost catalog had committed it. It must come before the first
session: a session's reconcile would remove the bitmaps of points that the catalog does not know.
"""

from __future__ import annotations

from itertools import groupby

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.points import add_point, has_point
from livebackup_receiver.catalog.sessions import uncommitted_ids
from livebackup_receiver.model import Point
from livebackup_receiver.store.manifest import Manifest, point_of, read_manifest
from livebackup_receiver.store.paths import LAYER_SUFFIX, MANIFEST_SUFFIX, Store


def rebuild(catalog: Catalog, store: Store) -> list[Point]:
    """Add every whole point of the store that the catalog does not have; those added, oldest first.

    :raise ManifestInvalid: a manifest cannot be read
    """
    found = points_in(store)
    with catalog.write() as db:
        refused = uncommitted_ids(db)
        added = [point for point in found if point.id not in refused and not has_point(db, point.id)]
        for point in added:
            add_point(db, point)
    return added


def points_in(store: Store) -> list[Point]:
    """Every point of the store whose layers and manifests are all there, oldest first.

    :raise ManifestInvalid: a manifest cannot be read
    """
    paths = [path for dummy, dummy, disk in store.disks() for path in disk.path.glob(f"*{MANIFEST_SUFFIX}")]
    manifests = [read_manifest(path) for path in paths if path.with_suffix(LAYER_SUFFIX).exists()]
    return [
        point_of(members, store, committed_at=max(each.sealed_at for each in members))
        for members in whole_points(manifests)
    ]


def whole_points(manifests: list[Manifest]) -> list[list[Manifest]]:
    """The manifests of each point that has all its members and all their parents, oldest first; pure."""
    whole: list[list[Manifest]] = []
    known: set[tuple[str | None, str, str]] = set()
    for dummy, group in groupby(sorted(manifests, key=lambda each: each.point), key=lambda each: each.point):
        members = list(group)
        named = {(member.vm, member.disk) for member in members[0].members}
        rooted = all(each.parent is None or (each.parent, each.vm, each.disk) in known for each in members)
        if rooted and named == {(each.vm, each.disk) for each in members}:
            whole.append(members)
            known |= {(each.point, each.vm, each.disk) for each in members}
    return whole
