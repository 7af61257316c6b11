# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The NBD ports of the configured range, each leased to one storage daemon at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class PortRange:
    """Leases ports; another program's port in the range shows at bind, and then the next one is tried."""

    def __init__(self, ports: range) -> None:
        self._ports = ports
        self._leased: set[int] = set()
        self._next = 0

    @contextmanager
    def lease(self) -> Iterator[Iterator[int]]:
        """Candidates to bind, in turn; the last one taken is held until the block ends."""
        held: list[int] = []
        try:
            yield self._candidates(held)
        finally:
            self._leased.difference_update(held)

    def _candidates(self, held: list[int]) -> Iterator[int]:
        for dummy in range(len(self._ports)):
            port = self._ports[self._next % len(self._ports)]
            self._next += 1
            if port in self._leased:
                continue
            self._leased.difference_update(held)
            held[:] = [port]
            self._leased.add(port)
            yield port
