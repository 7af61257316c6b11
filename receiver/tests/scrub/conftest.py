# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A chain to read back."""

from __future__ import annotations

import pytest
from damaging import CLUSTER
from reading_back import DB
from sample_store import SampleStore, Write

from livebackup_receiver.model import Point


@pytest.fixture
def points(store: SampleStore) -> list[Point]:
    """A chain of three; the second masks the parent's clusters 1 and 2, the third cluster 8."""
    return [
        store.add({DB: [Write(0, 16 * CLUSTER, 1)]}),
        store.add({DB: [Write(CLUSTER, 2 * CLUSTER, 2)]}),
        store.add({DB: [Write(8 * CLUSTER, CLUSTER, 3), Write(40 * CLUSTER, CLUSTER, 4)]}),
    ]
