# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data as they lie on the disk, not as the page cache remembers them.

What cannot be read does not end the reading: in its place comes noise, which matches no digest, and where
that was is noted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from livebackup_receiver.chain.extents import AnyExtent, Extent, PackedCluster
from livebackup_receiver.errors import LayerDamaged
from livebackup_receiver.store.qcow2 import CLUSTER_BYTES
from livebackup_receiver.store.ranges import Range


@dataclass
class Failures:
    """Where data could not be read, and why at last."""

    ranges: list[Range] = field(default_factory=list)
    problem: str | None = None

    def note(self, offset: int, length: int, error: OSError) -> None:
        self.ranges.append((offset, length))
        self.problem = error.strerror or str(error)


@dataclass(frozen=True)
class FreshExtent(Extent):
    """An extent that is read from the disk, and does not stay in the page cache."""

    failures: Failures = field(default_factory=Failures)

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill a buffer with the extent from its byte ``start`` on; never raises for what cannot be read."""
        try:
            super().read_into(buffer, start)
        except OSError:
            for begin, end in _clusters(self.offset + start, len(buffer)):
                self._read_piece(buffer[begin:end], start + begin)
        os.posix_fadvise(self.descriptor, self.place + start, len(buffer), os.POSIX_FADV_DONTNEED)

    def _read_piece(self, piece: memoryview, start: int) -> None:
        try:
            super().read_into(piece, start)
        except OSError as error:
            piece[:] = os.urandom(len(piece))
            self.failures.note(self.offset + start, len(piece), error)


@dataclass(frozen=True)
class FreshPackedCluster(PackedCluster):
    """A compressed cluster; one that cannot be unpacked does not match its digest."""

    failures: Failures

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill a buffer with the cluster from its byte ``start`` on; never raises."""
        try:
            super().read_into(buffer, start)
        except LayerDamaged:
            buffer[:] = os.urandom(len(buffer))
        except OSError as error:
            buffer[:] = os.urandom(len(buffer))
            self.failures.note(self.offset + start, len(buffer), error)


def fresh(extents: Iterable[AnyExtent], failures: Failures) -> Iterator[AnyExtent]:
    """The same extents, read from the disk; what cannot be read is noted."""
    for each in extents:
        if isinstance(each, Extent):
            yield FreshExtent(each.offset, each.length, each.descriptor, each.place, each.cipher, failures)
        else:
            yield FreshPackedCluster(each.offset, each.length, each.image, each.start, each.end, failures)


def forget(descriptor: int) -> None:
    """Have a file read from the disk next time, as far as it is written there."""
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _clusters(offset: int, length: int) -> Iterator[tuple[int, int]]:
    """The parts of a range that lie in one cluster each, relative to its begin."""
    begin = 0
    while begin < length:
        end = min(length, begin + CLUSTER_BYTES - (offset + begin) % CLUSTER_BYTES)
        yield begin, end
        begin = end
