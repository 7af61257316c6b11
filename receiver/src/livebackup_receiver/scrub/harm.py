# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which points see the damage of a layer, and where; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from livebackup_receiver.scrub.finding import Finding
from livebackup_receiver.store.ranges import ClusterNumbers, clusters_of


@dataclass(frozen=True)
class Harm:
    """What is wrong with a disk at a point.

    :param layers: the damaged ones that it is read from
    :param clusters: where it is wrong; None: nothing of it can be read
    """

    layers: tuple[str, ...]
    clusters: ClusterNumbers | None

    def and_(self, other: Harm) -> Harm:
        """Both together."""
        clusters = None
        if self.clusters is not None and other.clusters is not None:
            clusters = np.union1d(self.clusters, other.clusters)
        return Harm((*self.layers, *other.layers), clusters)


Parents = Mapping[str, str | None]
"""The layers of a disk, each with the one below it."""

Holds = Callable[[str], ClusterNumbers]
"""Which clusters a layer holds itself."""


def harms(parents: Parents, findings: Mapping[str, Finding], holds: Holds) -> dict[str, Harm]:
    """Of every point of a disk that sees damage, what it sees.

    :param findings: of the layers that are not good
    """
    children: dict[str, list[str]] = {point: [] for point in parents}
    for point, parent in parents.items():
        if parent in children:
            children[parent].append(point)
    found: dict[str, Harm] = {}
    for point, finding in findings.items():
        if point in parents and (finding.ranges or finding.useless):
            for above, harm in _seen(point, finding, children, holds):
                found[above] = found[above].and_(harm) if above in found else harm
    return found


def _seen(
    point: str, finding: Finding, children: Mapping[str, list[str]], holds: Holds
) -> list[tuple[str, Harm]]:
    """The damaged layer and those above it, as far as they do not hold what is damaged themselves."""
    clusters = None if finding.useless else clusters_of(finding.ranges)
    seen = {point: clusters}
    waiting = [point]
    while waiting:
        below = waiting.pop()
        for child in (each for each in children[below] if each not in seen):
            left = _left(seen[below], child, holds)
            if left is None or len(left):
                seen[child] = left
                waiting.append(child)
    return [(above, Harm((point,), left)) for above, left in seen.items()]


def _left(clusters: ClusterNumbers | None, child: str, holds: Holds) -> ClusterNumbers | None:
    if clusters is None:
        return None
    held = holds(child)
    places = np.searchsorted(held, clusters)
    masked = np.zeros(len(clusters), bool)
    inside = places < len(held)
    masked[inside] = held[places[inside]] == clusters[inside]
    left: ClusterNumbers = clusters[~masked]
    return left
