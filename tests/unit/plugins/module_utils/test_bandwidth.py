# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils._bandwidth import job_speed, patience

MIB = 1 << 20


@pytest.mark.parametrize(
    ("running", "disk", "host", "share", "speed"),
    [
        (3, 0, 0, None, 0),
        (3, 5 * MIB, 0, None, 5 * MIB),
        (4, 0, 8 * MIB, None, 2 * MIB),
        (4, MIB, 8 * MIB, None, MIB),
        (4, 4 * MIB, 8 * MIB, MIB, MIB),
        (0, 0, 8 * MIB, None, 8 * MIB),
        (1000, 0, MIB, None, 65536),
    ],
)
def test_the_lowest_limit_counts(running: int, disk: int, host: int, share: int | None, speed: int) -> None:
    assert job_speed(running, disk=disk, host=host, share=share) == speed


def test_the_slower_a_job_the_more_patience() -> None:
    assert patience(0) == patience(MIB) == 0.0
    assert patience(65536) > patience(MIB // 2) > 1.0
