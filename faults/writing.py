# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that write one after the other: no write begins before the one before it has been answered.

All are given the same count in turn. So at any instant the counts in the first sectors of all disks, in the
order of writing, never rise. A point whose disks are not all of one cut breaks that.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from machine import Machine, wait_for

REST_S = 0.15
_POLL_S = 0.2


@dataclass
class Record:
    """What a machine's guest has gone through; times in seconds."""

    rounds: int = 0
    failed_writes: int = 0
    longest_s: float = 0.0
    asked_at: float | None = None

    def waiting_s(self) -> float:
        """For how long the guest has not answered."""
        return 0.0 if self.asked_at is None else time.monotonic() - self.asked_at


@dataclass
class Writing:
    """Writers of several machines, which run while the block runs; ``pause`` for work on the machines."""

    machines: Sequence[Machine]
    records: dict[str, Record] = field(default_factory=dict)
    count: int = 0
    _links: dict[str, socket.socket] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def running(self) -> Iterator[Writing]:
        """Write until the block ends."""
        self.records = {machine.name: Record() for machine in self.machines}
        thread = threading.Thread(target=self._write, name="guests")
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join()
            for link in self._links.values():
                link.close()

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """No write is under way while the block runs; the links are made anew after it."""
        with self._turn:
            yield
            for link in self._links.values():
                link.close()
            self._links.clear()

    def forget_delays(self) -> None:
        """Begin to measure anew."""
        for record in self.records.values():
            record.longest_s = 0.0

    def wait_rounds(self, count: int = 2) -> None:
        """Wait until every guest has made some more rounds."""
        goals = {name: record.rounds + count for name, record in self.records.items()}
        for name, goal in goals.items():
            wait_for(lambda name=name, goal=goal: self.records[name].rounds >= goal, f"{name} to write")  # type: ignore[misc]

    def _write(self) -> None:
        while not self._ended.wait(REST_S):
            with self._turn:
                for machine in self.machines:
                    self._round(machine)
                self.count += 1

    def _round(self, machine: Machine) -> None:
        record = self.records[machine.name]
        record.asked_at = time.monotonic()
        try:
            answer = self._ask(machine)
        except OSError:
            return
        finally:
            record.longest_s = max(record.longest_s, record.waiting_s())
            record.asked_at = None
        record.rounds += answer.count(b"A")
        record.failed_writes += answer.count(b"E")

    def _ask(self, machine: Machine) -> bytes:
        link = self._links.get(machine.name)
        if link is None:
            link = self._links[machine.name] = socket.socket(socket.AF_UNIX)
            link.connect(str(machine.serial()))
            link.settimeout(_POLL_S)
        link.send(struct.pack("<I", self.count))
        answer = b""
        while b"A" not in answer and not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                data = link.recv(64)
                if not data:
                    raise ConnectionError("the guest has gone")
                answer += data
        return answer
