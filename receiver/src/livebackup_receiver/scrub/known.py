# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of damage in the store, from the catalog and the digest tables; no data is read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce

import numpy as np

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.layer_checks import bad_checks
from livebackup_receiver.catalog.points import DiskPoint, disk_points
from livebackup_receiver.clock import now
from livebackup_receiver.errors import DigestsInvalid, PointDamaged, PointLost
from livebackup_receiver.scrub.finding import Finding, LayerCheck, Result
from livebackup_receiver.scrub.harm import Harm, harms
from livebackup_receiver.store.digests import read_table
from livebackup_receiver.store.paths import DiskDirectory, Store
from livebackup_receiver.store.ranges import ClusterNumbers, Range, ranges_of, words

NAMED = 3


@dataclass(frozen=True)
class DiskDamage:
    """A disk with layers that are not good.

    :param points: all of the disk, newest first
    :param checks: the results that are not good, by the point of the layer
    :param hurt: the kept points that see it
    """

    vm: str
    disk: str
    points: Sequence[DiskPoint]
    checks: Mapping[str, LayerCheck]
    hurt: Mapping[str, Harm]

    @property
    def newest(self) -> DiskPoint | None:
        """The newest point that is kept."""
        return next((each for each in self.points if not each.dropped), None)

    @property
    def virtual_size(self) -> int:
        return max(each.virtual_size for each in self.points)


def harms_of(
    points: Sequence[DiskPoint], checks: Mapping[str, LayerCheck], directory: DiskDirectory
) -> dict[str, Harm]:
    """Of the points of a disk that see damage, dropped or not, what they see.

    :param points: all of the disk
    :param checks: the results that are not good
    """

    @cache
    def holds(point: str) -> ClusterNumbers:
        try:
            return read_table(directory.digests(point)).index
        except DigestsInvalid:
            # Nothing is known to be masked then.
            return np.zeros(0, np.uint64)

    return harms({each.point: each.parent for each in points}, checks, holds) if checks else {}


def known_damage(catalog: Catalog, store: Store) -> list[DiskDamage]:
    """Every disk with layers that are not good."""
    with catalog.read() as db:
        found = bad_checks(db)
        points = {key: disk_points(db, *key) for key in found}
    return [_damage(*key, points[key], checks, store) for key, checks in sorted(found.items()) if points[key]]


def require_sound(
    catalog: Catalog,
    store: Store,
    point: str,
    vm: str,
    disks: Collection[str],
    *,
    accept_damage: bool = False,
) -> None:
    """Refuse to read what a scrub has found to be damaged.

    :param accept_damage: refuse only what cannot be read at all
    :raise PointDamaged: that can be seen in one of the disks at this point
    :raise PointLost: nothing of one of the disks can be read
    """
    with catalog.read() as db:
        found = bad_checks(db, {vm})
    for disk in (each for each in disks if (vm, each) in found):
        # What is only known of merged layers may not be seen at all, and is for the next scrub to find out.
        checks = {layer: each for layer, each in found[vm, disk].items() if each.checked_at}
        damage = _damage_of(catalog, store, vm, disk, checks)
        if point in damage.hurt:
            refused = _refusal(damage, point)
            if isinstance(refused, PointLost) or not accept_damage:
                raise refused


def refusal_of(
    catalog: Catalog, store: Store, point: str, vm: str, disk: str, found: Mapping[str, Finding]
) -> PointDamaged:
    """What to say to whoever wants a point, when reading it has shown damage; nothing is kept of that.

    :param found: by the points of the layers
    """
    with catalog.read() as db:
        known = bad_checks(db, {vm}).get((vm, disk), {})
    checks = {
        layer: LayerCheck(**each.model_dump(), vm=vm, disk=disk, point=layer, checked_at=now())
        for layer, each in found.items()
    }
    return _refusal(_damage_of(catalog, store, vm, disk, known | checks), point)


def refusal_of_ranges(
    catalog: Catalog, store: Store, point: str, vm: str, disk: str, found: Mapping[str, Sequence[Range]]
) -> PointDamaged:
    """The same for data that do not match their digests.

    :param found: the ranges, by the points of the layers that hold them
    """
    findings = {
        layer: Finding(result=Result.DAMAGED, problem="its data do not match", ranges=list(ranges))
        for layer, ranges in found.items()
    }
    return refusal_of(catalog, store, point, vm, disk, findings)


def _refusal(damage: DiskDamage, point: str) -> PointDamaged:
    harm, named = damage.hurt[point], (point, damage.vm, damage.disk)
    if harm.clusters is not None:
        return PointDamaged(*named, where(damage, [point]), _whole(damage))
    layer = next(each for each in harm.layers if damage.checks[each].useless)
    return PointLost(*named, f"as a whole (layer {layer}: {damage.checks[layer].problem})", _whole(damage))


def _damage_of(
    catalog: Catalog, store: Store, vm: str, disk: str, checks: Mapping[str, LayerCheck]
) -> DiskDamage:
    with catalog.read() as db:
        return _damage(vm, disk, disk_points(db, vm, disk), checks, store)


def where(damage: DiskDamage, points: Iterable[str]) -> str:
    """Where a disk is damaged at these points, for people."""
    every = reduce(Harm.and_, (damage.hurt[point] for point in points))
    if every.clusters is None:
        return "as a whole"
    return f"bytes {words(ranges_of(every.clusters, damage.virtual_size))}"


def _whole(damage: DiskDamage) -> str:
    whole = [each.point for each in damage.points if not each.dropped and each.point not in damage.hurt]
    return f"point {' or '.join(whole[:NAMED])}, where it is not" if whole else "another copy of the store"


def _damage(
    vm: str, disk: str, points: Sequence[DiskPoint], checks: Mapping[str, LayerCheck], store: Store
) -> DiskDamage:
    kept = {each.point for each in points if not each.dropped}
    found = harms_of(points, checks, store.disk(vm, disk))
    hurt = {point: found[point] for point in sorted(found) if point in kept}
    return DiskDamage(vm, disk, points, checks, hurt)
