# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written to a file is read back and hashed meanwhile, in the order in which it lies there.

Writing waits for the disk and hashing for the processor, so together they take hardly longer than one of
them. Afterwards only tables are left to be compared.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Thread

import numpy as np
from numpy.typing import NDArray

from livebackup_receiver.chain.copying import Pace
from livebackup_receiver.store.digests import DIGEST_BYTES, Digests
from livebackup_receiver.store.qcow2 import CLUSTER_BYTES
from livebackup_receiver.store.verify import digest_all

CHUNK_CLUSTERS = 64
CHUNK_BYTES = CHUNK_CLUSTERS * CLUSTER_BYTES
LOOK_S = 0.2


class Follower:
    """Made by ``following``; ``reached`` and ``finish`` are called by whoever writes the file.

    ``useful`` is to be taken away if the file was written again from its beginning.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._chunks: dict[int, Digests] = {}
        self._reached = 0
        self._told = 0
        self._ended = False
        self._more = Condition()
        self._problem: OSError | None = None
        self._hashed = 0
        self.useful = True
        self._thread = Thread(target=self._follow, name="read back")

    def reached(self, place: int) -> None:
        """The file is what it will be up to this place."""
        self._reached = max(self._reached, place)
        if self._reached - self._told >= CHUNK_BYTES:
            with self._more:
                self._told = self._reached
                self._more.notify()

    def finish(self, pace: Pace) -> None:
        """Nothing more is written; return when all of it is hashed.

        :param pace: told the bytes that were hashed; may raise to give way
        :raise OSError: it cannot be read
        """
        self._end(os.fstat(self._descriptor).st_size)
        told = 0
        while self._thread.is_alive():
            self._thread.join(LOOK_S)
            told, hashed = self._hashed, self._hashed - told
            pace(hashed)
        if self._problem is not None:
            raise self._problem

    def rows(self, places: NDArray[np.int64]) -> Digests:
        """The digests of the clusters at these places, which are multiples of a cluster's size.

        Where there is nothing but zeros, they are zero.
        """
        numbers = places // CLUSTER_BYTES
        chunks, rows = numbers // CHUNK_CLUSTERS, numbers % CHUNK_CLUSTERS
        found = np.zeros((len(places), DIGEST_BYTES), np.uint8)
        order = np.argsort(chunks, kind="stable")
        starts = np.flatnonzero(np.diff(chunks[order], prepend=-1))
        for some in np.split(order, starts[1:]) if len(order) else []:
            chunk = self._chunks.get(int(chunks[some[0]]))
            if chunk is not None:
                found[some] = chunk[rows[some]]
        return found

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End, whether or not all is hashed."""
        self._end(0)
        self._thread.join()

    def _end(self, size: int) -> None:
        with self._more:
            self._ended, self._reached = True, size
            self._more.notify()

    def _follow(self) -> None:
        try:
            buffer = memoryview(bytearray(CHUNK_BYTES))
            number = 0
            while (number := self._next(number)) >= 0:
                self._chunks[number] = self._hash(buffer, number)
                self._hashed += CHUNK_BYTES
                number += 1
        except OSError as error:
            self._problem = error

    def _next(self, number: int) -> int:
        """The next chunk from this one on that holds data; -1 if there is none."""
        while True:
            ended, reached = self._wait_for((number + 1) * CHUNK_BYTES)
            if number * CHUNK_BYTES >= reached:
                return -1
            found = self._data_from(number * CHUNK_BYTES) // CHUNK_BYTES
            if found == number:
                return number
            number = min(found, -(-reached // CHUNK_BYTES) if ended else reached // CHUNK_BYTES)

    def _wait_for(self, place: int) -> tuple[bool, int]:
        """Whether all is written, and up to where, when that is at least up to this place."""
        with self._more:
            self._more.wait_for(lambda: self._ended or self._reached >= place)
            return self._ended, self._reached

    def _data_from(self, place: int) -> int:
        try:
            return os.lseek(self._descriptor, place, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        return max(place + CHUNK_BYTES, os.fstat(self._descriptor).st_size)

    def _hash(self, buffer: memoryview, number: int) -> Digests:
        done = 0
        while done < CHUNK_BYTES:
            count = os.preadv(self._descriptor, [buffer[done:]], number * CHUNK_BYTES + done)
            if not count:
                break
            done += count
        buffer[done:] = bytes(CHUNK_BYTES - done)
        digests = digest_all(buffer, np.arange(CHUNK_CLUSTERS))
        return np.frombuffer(digests, np.uint8).reshape(-1, DIGEST_BYTES)


@contextmanager
def following(descriptor: int) -> Iterator[Follower]:
    """Read a file back while it is written; nothing reads it any more when the block ends."""
    follower = Follower(descriptor)
    follower.start()
    try:
        yield follower
    finally:
        follower.stop()
