# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading one layer back against its manifest, its digest table, and the layers that it lies on.

Names are looked up by ``open_subject`` only, so whoever calls it keeps the directory as it is meanwhile; and
the layers' files for as long as the subject is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from livebackup_receiver.chain import flat
from livebackup_receiver.chain.image import Image, open_image
from livebackup_receiver.errors import DigestsInvalid, LayerDamaged, LayerUnsupported
from livebackup_receiver.scrub.finding import Finding, Result
from livebackup_receiver.scrub.fresh import Failures, forget, fresh
from livebackup_receiver.scrub.masks import Mask, Mismatch, digests_at, masked_by_all, mismatch
from livebackup_receiver.store import access
from livebackup_receiver.store.ancestry import ancestry
from livebackup_receiver.store.digests import Table, read_chain, read_table
from livebackup_receiver.store.manifest import Manifest, read_manifest
from livebackup_receiver.store.paths import DiskDirectory
from livebackup_receiver.store.qcow2 import CLUSTER_BITS
from livebackup_receiver.store.ranges import ClusterNumbers, clusters_of, coarsened, ranges_of
from livebackup_receiver.store.verify import damaged_ranges, one_layer

Pace = Callable[[int], None]
"""Told the bytes before they are read; may wait, or raise to give way."""


class Unfinished(Exception):
    """The layer is a merged one already, what lies beside it is not; the receiver's start sees to that."""


@dataclass(frozen=True)
class Subject:
    """An open layer, and what it is held against.

    :param children: if its point is dropped, the layers on it: what all of them mask may be gone
    """

    directory: DiskDirectory
    image: Image
    manifest: Manifest
    table: Table
    children: Sequence[Image]


@contextmanager
def open_subject(directory: DiskDirectory, point: str, children: Sequence[str]) -> Iterator[Subject]:
    """Open a layer for reading it back.

    :param children: the points of the layers on it, if its own is dropped
    :raise LayerDamaged: its structure is damaged, or leads elsewhere than its manifest says
    :raise LayerUnsupported: it is of another kind than the receiver makes
    :raise ManifestInvalid: its manifest cannot be read
    :raise DigestsInvalid: its digest table is missing or damaged
    :raise OSError: it cannot be read at all
    :raise Unfinished: a merge into it was interrupted
    """
    with ExitStack() as stack:
        image = stack.enter_context(open_image(directory.layer(point)))
        if image.cluster_bits != CLUSTER_BITS:
            raise LayerUnsupported(str(image.path), "its clusters are not of 64 KiB")
        manifest = read_manifest(directory.manifest(point))
        if children and image.virtual_size > manifest.virtual_size:
            # what lies on it was added to it, and the name not yet given
            raise Unfinished
        _require_agreement(image, manifest, directory)
        table = _table(directory, point, image)
        if table.virtual_size != image.virtual_size:
            raise LayerDamaged(str(image.path), f"its digest table is of {table.virtual_size} bytes")
        above = [stack.enter_context(open_image(directory.layer(child))) for child in children]
        yield Subject(directory, image, manifest, table, above)


def _require_agreement(image: Image, manifest: Manifest, directory: DiskDirectory) -> None:
    parent = directory.layer(manifest.parent).name if manifest.parent else None
    if image.backing != parent and directory.intent(manifest.point).exists():
        raise Unfinished
    if image.backing != parent:
        raise LayerDamaged(str(image.path), f"it lies on {image.backing}, and its manifest says {parent}")
    if image.virtual_size != manifest.virtual_size:
        problem = f"it is of {image.virtual_size} bytes, and its manifest says {manifest.virtual_size}"
        raise LayerDamaged(str(image.path), problem)


def _table(directory: DiskDirectory, point: str, image: Image) -> Table:
    try:
        return read_table(directory.digests(point))
    except DigestsInvalid:
        # Then there is only the structure to look at.
        for dummy in image.batches():
            pass
        raise


def read_back(subject: Subject, pace: Pace) -> Finding:
    """Read all that a layer holds, and compare.

    :raise LayerDamaged: its structure is damaged
    :raise OSError: its tables cannot be read
    :raise ManifestInvalid: the layers below are asked, and a manifest cannot be read
    :raise DigestsInvalid: the layers below are asked, and a digest table cannot be used
    """
    image, failures = subject.image, Failures()
    different = mismatch(image, subject.table) if image.backing else Mismatch(NOTHING, NOTHING)
    hidden, wrong = _judge(different, subject)
    forget(image.descriptor)
    expected = one_layer(subject.table, unseen=_unseen(subject, hidden))
    extents = fresh(flat.extents([image]), failures)
    found = clusters_of(list(damaged_ranges(extents, image.virtual_size, expected, pace=pace)))
    return _finding(np.union1d(found, wrong), failures, image.virtual_size)


NOTHING: ClusterNumbers = np.zeros(0, np.uint64)


def _judge(different: Mismatch, subject: Subject) -> tuple[ClusterNumbers, ClusterNumbers]:
    """Of clusters that are held or listed, but not both: those that need no look, and those that are wrong.

    One that is listed, but left to the layers below, is right if they hold the same. One that hides what lies
    below without being listed is right if there are only zeros.
    """
    if not different:
        return NOTHING, NOTHING
    with access.opening([subject.directory.path]):
        chain = ancestry(subject.directory, subject.manifest.parent) if subject.manifest.parent else []
        below = read_chain([subject.directory.digests(point) for point in chain])
    same = digests_at(below, different.unheld) == digests_at([subject.table], different.unheld)
    zeros = ~digests_at(below, different.unlisted).any(axis=1)
    wrong = np.union1d(different.unheld[~same.all(axis=1)], different.unlisted[~zeros])
    if subject.children:
        wrong = wrong[[not masked_by_all(subject.children, int(each), 1)[0] for each in wrong]]
    return different.unheld, wrong


def _unseen(subject: Subject, hidden: ClusterNumbers) -> Callable[[int, int], Mask]:
    def unseen(first: int, count: int) -> Mask:
        mask = np.zeros(count, bool)
        start, end = np.searchsorted(hidden, [first, first + count])
        mask[(hidden[start:end] - np.uint64(first)).astype(np.int64)] = True
        return mask | masked_by_all(subject.children, first, count) if subject.children else mask

    return unseen


def _finding(wrong: ClusterNumbers, failures: Failures, virtual_size: int) -> Finding:
    if not len(wrong):
        return Finding(result=Result.GOOD)
    ranges = coarsened(ranges_of(wrong, virtual_size))
    if len(np.setdiff1d(wrong, clusters_of(failures.ranges))):
        return Finding(result=Result.DAMAGED, problem="its bytes do not match their digests", ranges=ranges)
    return Finding(result=Result.UNREADABLE, problem=failures.problem, ranges=ranges)
