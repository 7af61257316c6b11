# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which points the files of a store make; pure.

A point is whole if every disk that its manifests name has its layer, its manifest, and all layers below.
One that lacks something may never have been committed, so it is no point; but if a whole one lies on it,
then it was, and what is left of it is an incomplete point. What lies on nothing is not touched by anybody.

Of a dropped point the layers that are left are ghosts. One that carries layers of no point is left out as
well, so that nobody takes it away from them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from livebackup_receiver.model import MissingVm, Point
from livebackup_receiver.store.inventory import Inventory, Key, LayerFile
from livebackup_receiver.store.manifest import Manifest, point_of
from livebackup_receiver.store.paths import Store

Manifests = Mapping[Key, Manifest]


@dataclass(frozen=True)
class Incomplete:
    """A set of layers that lacks some; ``kept`` if what is left of it is a point all the same."""

    point: str
    group: str
    problems: tuple[str, ...]
    kept: bool


@dataclass(frozen=True)
class Survey:
    """What a catalog of the store must hold, oldest first, and what it cannot.

    :param ghosts: what is left of dropped points
    """

    points: tuple[Point, ...]
    ghosts: tuple[Point, ...]
    incomplete: tuple[Incomplete, ...]


def survey(inventory: Inventory, store: Store) -> Survey:
    """What points there are."""
    files = {each.key: each for each in inventory.layers}
    usable = {key: each.manifest for key, each in files.items() if each.manifest and each.size is not None}
    dropped = {mark.point for mark in inventory.marks if mark.dropped_at}
    sets = _sets(each.manifest for each in files.values() if each.manifest and each.point not in dropped)
    rooted = {key: manifest for key, manifest in usable.items() if _is_rooted(key, usable)}
    problems = {point: _problems(manifests, files, rooted) for point, manifests in sets.items()}
    kept, needed = _kept({point for point in sets if not problems[point]}, set(sets), rooted)
    layers = {key: manifest for key, manifest in rooted.items() if key[2] in kept}
    ghosts = _ghosts(files, usable, rooted, dropped, needed, layers)
    return Survey(
        points=tuple(
            _point(each, problems[each[0].point], store) for each in _sets(layers.values()).values()
        ),
        ghosts=tuple(_point(each, [], store) for each in _sets(ghosts).values()),
        incomplete=tuple(
            Incomplete(point, sets[point][0].group, tuple(what), point in kept)
            for point, what in problems.items()
            if what
        ),
    )


def chain_below(key: Key, manifests: Manifests) -> list[Key]:
    """A layer and those below it as far as they are there, the layer first."""
    vm, disk, point = key
    chain: list[Key] = []
    wanted: str | None = point
    while wanted is not None and (vm, disk, wanted) in manifests and (vm, disk, wanted) not in chain:
        chain.append((vm, disk, wanted))
        wanted = manifests[vm, disk, wanted].parent
    return chain


def _is_rooted(key: Key, usable: Manifests) -> bool:
    return usable[chain_below(key, usable)[-1]].parent is None


def _sets(manifests: Iterable[Manifest]) -> dict[str, list[Manifest]]:
    """The manifests of each point, oldest point first."""
    found: dict[str, list[Manifest]] = {}
    for each in sorted(manifests, key=lambda each: (each.point, each.vm, each.disk)):
        found.setdefault(each.point, []).append(each)
    return found


def _problems(manifests: list[Manifest], files: Mapping[Key, LayerFile], rooted: Manifests) -> list[str]:
    """What a point lacks."""
    named = {(member.vm, member.disk) for each in manifests for member in each.members}
    keys = [(vm, disk, manifests[0].point) for vm, disk in sorted(named)]
    return [f"disk {key[1]} of VM {key[0]}: {_problem(files.get(key))}" for key in keys if key not in rooted]


def _problem(file: LayerFile | None) -> str:
    if file is None or file.size is None:
        return "its layer is missing"
    return file.problem if file.manifest is None and file.problem else "a layer below its own is missing"


def _kept(whole: set[str], undropped: set[str], rooted: Manifests) -> tuple[set[str], set[Key]]:
    """The points to keep, and every layer that they are read from."""
    kept = set(whole)
    while True:
        needed = {below for key in rooted if key[2] in kept for below in chain_below(key, rooted)}
        more = {key[2] for key in needed if key[2] in undropped} - kept
        if not more:
            return kept, needed
        kept |= more


def _ghosts(
    files: Mapping[Key, LayerFile],
    usable: Manifests,
    rooted: Manifests,
    dropped: Collection[str],
    needed: Collection[Key],
    layers: Manifests,
) -> list[Manifest]:
    homeless = {key for key in usable if key[2] not in dropped and key not in layers}
    carrying = {below for key in homeless for below in chain_below(key, usable)}
    ghosts = [
        manifest
        for key, manifest in rooted.items()
        if key[2] in dropped and (key in needed or key not in carrying)
    ]
    # A kill came between the removal of a layer and that of its manifest.
    parents = {(key[0], key[1], manifest.parent) for key, manifest in usable.items()}
    leavings = [
        each.manifest
        for key, each in files.items()
        if each.manifest and each.size is None and key[2] in dropped and key not in parents
    ]
    return ghosts + leavings


def _point(manifests: list[Manifest], problems: list[str], store: Store) -> Point:
    point = point_of(manifests, store, committed_at=max(each.sealed_at for each in manifests))
    if not problems:
        return point
    reason = f"the store lacks {'; '.join(problems)}"
    named = sorted({(member.vm, manifests[0].host) for each in manifests for member in each.members})
    there = {vm.vm: len(vm.disks) for vm in point.vms}
    all_of = {
        vm: len({m.disk for each in manifests for m in each.members if m.vm == vm}) for vm, dummy in named
    }
    lost = [MissingVm(vm=vm, host=host, reason=reason) for vm, host in named if there.get(vm, 0) < all_of[vm]]
    return point.model_copy(update={"complete": False, "missing": [*point.missing, *lost]})
