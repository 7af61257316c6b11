# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for tests that need a lab. Use them by importing them into a conftest.

The lab of a test run is its own and is gone afterwards. LIVEBACKUP_LAB names one to use instead, and
LIVEBACKUP_LAB_KEEP=1 leaves it up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lab import topology
from lab.lab import Lab
from lab.vm import Vm


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The usual three hosts, without virtual machines."""
    current = Lab(os.environ.get("LIVEBACKUP_LAB") or f"pytest-{os.getpid()}")
    try:
        current.start(vms=False)
        yield current
    finally:
        if not os.environ.get("LIVEBACKUP_LAB_KEEP"):
            current.down()


@pytest.fixture
def guests(lab: Lab) -> dict[str, Vm]:
    """The usual virtual machines, all up; what an earlier test killed is started again."""
    lab.start()
    return {name: lab.vm(name) for name in topology.VMS}
