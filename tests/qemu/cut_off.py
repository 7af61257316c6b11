# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A receiver in a network namespace of its own, whose cable can be pulled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from receiving import ReceiverProcess

HERE, THERE = "198.18.77.1", "198.18.77.2"


@dataclass
class FarReceiver(ReceiverProcess):
    """Reached over a cable; see ``pull``."""

    namespace: str = ""

    @property
    def host(self) -> str:
        """Where it listens."""
        return THERE

    @property
    def prefix(self) -> tuple[str, ...]:
        """Before each command that serves."""
        return ("ip", "netns", "exec", self.namespace)

    def pull(self) -> None:
        """Pull the cable out."""
        ip(f"-n {self.namespace} link set lb-there down")

    def plug(self) -> None:
        """Put it in again."""
        ip(f"-n {self.namespace} link set lb-there up")


@contextmanager
def far_receiver(directory: Path) -> Iterator[FarReceiver]:
    """A receiver at the end of a cable."""
    name = f"lb-test-{os.getpid()}"
    near = f"lbt{os.getpid()}"
    ip(f"netns add {name}")
    try:
        ip(f"link add {near} type veth peer name lb-there netns {name}")
        ip(f"addr add {HERE}/30 dev {near}")
        ip(f"link set {near} up")
        ip(f"-n {name} addr add {THERE}/30 dev lb-there")
        ip(f"-n {name} link set lb-there up")
        ip(f"-n {name} link set lo up")
        with FarReceiver(directory, namespace=name, addresses=(THERE,)) as receiver:
            yield receiver
    finally:
        # the cable goes with it
        ip(f"netns del {name}")


def ip(words: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *words.split()], check=True)
