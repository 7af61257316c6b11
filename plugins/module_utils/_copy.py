# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bringing an image to the content that digests say. For internal use of livebackup.qemu only.

It is one way for all: what a run that was interrupted has left, an older copy, and the receiver are asked in
this order, and of each only those clusters are taken whose digest is the one that is wanted. So nothing that
is on the disk already need be trusted, and nothing wrong is ever written.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ansible_collections.livebackup.qemu.plugins.module_utils import _runs
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import ContentWrong, LivebackupError
from ansible_collections.livebackup.qemu.plugins.module_utils._nbd import CLUSTER_BYTES, Stopped
from ansible_collections.livebackup.qemu.plugins.module_utils._restored_image import Access, Image
from ansible_collections.livebackup.qemu.plugins.module_utils._runs import Run
from ansible_collections.livebackup.qemu.plugins.module_utils._wanted import Wanted

# connections to the receiver for each disk, and to a local image
THREADS = 2
# one request: 2 MiB
REQUEST_CLUSTERS = 32

Opener = Callable[[], contextlib.AbstractContextManager[Access]]
Handle = Callable[[Access, Run, memoryview], None]


@dataclass
class Tally:
    """Bytes of a disk by where they came from; ``wanted_bytes`` is what they add up to in the end."""

    wanted_bytes: int = 0
    resumed_bytes: int = 0
    kept_bytes: int = 0
    fetched_bytes: int = 0
    # for the eyes of people
    phase: str = "waiting"
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, source: str, clusters: int) -> None:
        """Count clusters that are right now; ``source`` is resumed, kept or fetched."""
        name = f"{source}_bytes"
        with self._lock:
            setattr(self, name, getattr(self, name) + clusters * CLUSTER_BYTES)

    @property
    def done_bytes(self) -> int:
        """Bytes that are right in the new file."""
        return self.resumed_bytes + self.kept_bytes + self.fetched_bytes


@dataclass
class Copying:
    """One disk on its way: ``basis`` is an older copy, ``source`` opens the point at the receiver."""

    disk: str
    wanted: Wanted
    target: Image
    source: Opener
    stop: threading.Event
    basis: Image | None = None
    resuming: bool = False
    tally: Tally = field(default_factory=Tally)

    def run(self) -> None:
        """Bring the target to the wanted content. Raises ContentWrong, RestoreError, ReceiverError."""
        self.tally.wanted_bytes = self.wanted.data_bytes
        missing = self.wanted.runs
        if self.resuming:
            self.tally.phase = "resuming"
            missing = _runs.without(missing, self._resume())
        if self.basis is not None and missing:
            self.tally.phase = "comparing"
            missing = _runs.without(missing, self._take_over(missing, self.basis))
        if missing:
            self.tally.phase = "fetching"
            self._fetch(missing)
        self.tally.phase = "finishing"

    def _resume(self) -> list[Run]:
        """The clusters that are right in the target already; what must be zero is made so."""
        with self.target.opened(self.stop) as access:
            present = _runs.joined(access.data())
            for first, count in _runs.without(present, self.wanted.runs):
                offset = first * CLUSTER_BYTES
                access.zero(offset, min(count * CLUSTER_BYTES, self.wanted.size - offset))
        found: list[Run] = []

        def look(_writer: Access, run: Run, data: memoryview) -> None:
            right = self.wanted.right(run, data)
            found.extend(right)
            self.tally.add("resumed", _runs.count_of(right))

        self._work(_runs.common(self.wanted.runs, present), lambda: self.target.opened(self.stop), look)
        return _runs.joined(found)

    def _take_over(self, missing: list[Run], basis: Image) -> list[Run]:
        """The clusters that were right in the older copy, and now are in the target."""
        with basis.opened(self.stop) as access:
            present = _runs.joined(access.data())
        found: list[Run] = []

        def take(writer: Access, run: Run, data: memoryview) -> None:
            for first, count in self.wanted.right(run, data):
                at = (first - run[0]) * CLUSTER_BYTES
                writer.write(first * CLUSTER_BYTES, data[at : at + count * CLUSTER_BYTES])
                found.append((first, count))
                self.tally.add("kept", count)

        self._work(_runs.common(missing, present), lambda: basis.opened(self.stop), take)
        return _runs.joined(found)

    def _fetch(self, missing: list[Run]) -> None:
        def take(writer: Access, run: Run, data: memoryview) -> None:
            if self.wanted.right(run, data) != [run]:
                raise wrong(self.disk, _runs.without([run], self.wanted.right(run, data)))
            writer.write(run[0] * CLUSTER_BYTES, data)
            self.tally.add("fetched", run[1])

        self._work(missing, self.source, take)

    def _work(self, runs: list[Run], source: Opener, handle: Handle) -> None:
        """Read runs and handle them, in several threads; raise the first error of any."""
        shares = Shares(_runs.pieces(runs, REQUEST_CLUSTERS))
        errors: list[BaseException] = []

        def work() -> None:
            try:
                with contextlib.ExitStack() as stack:
                    writer = stack.enter_context(self.target.opened(self.stop))
                    reader = stack.enter_context(source())
                    for run, data in reader.read(iter(shares)):
                        handle(writer, run, data)
            except BaseException as error:
                errors.append(error)
                self.stop.set()

        needed = min(THREADS, -(-_runs.count_of(runs) // REQUEST_CLUSTERS))
        threads = [threading.Thread(target=work, name=f"restore {self.disk}") for dummy in range(needed)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise first_of(errors)


class Shares:
    """An iterator that several threads take from."""

    def __init__(self, items: Iterator[Run]) -> None:
        self._items = items
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Run]:
        return self

    def __next__(self) -> Run:
        with self._lock:
            return next(self._items)


def first_of(errors: list[BaseException]) -> BaseException:
    """Of what several threads have ended with, the cause. Pure."""
    causes = [error for error in errors if not isinstance(error, Stopped)]
    ours = [error for error in causes if isinstance(error, LivebackupError)]
    return (ours or causes or errors)[0]


def wrong(disk: str, runs: list[Run]) -> ContentWrong:
    """The error for clusters that came with another content than the digests say. Pure."""
    first, count = runs[0]
    start, end = first * CLUSTER_BYTES, (first + count) * CLUSTER_BYTES
    return ContentWrong(
        f"Disk {disk}: what the receiver sent for bytes {start} to {end - 1} is not what was backed up, so "
        "nothing was restored; run livebackup-receiver scrub there, which finds the damage and the points "
        "without it.",
        disk=disk,
        offset=start,
        length=end - start,
    )
