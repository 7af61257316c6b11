# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from retention.sample_points import DAY, NOW, scoped, series

from livebackup_receiver.retention.schedule import Schedule
from livebackup_receiver.retention.simulate import simulate


def test_a_long_simulation_can_be_ended_at_any_backup() -> None:
    breaths = 0

    def breathe() -> None:
        nonlocal breaths
        breaths += 1
        if breaths == 5:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        simulate(
            "nightly",
            series(3, DAY),
            history={},
            schedule=Schedule.parse("every 1h"),
            policies=[scoped(daily=7)],
            now=NOW,
            until=NOW + 365 * DAY,
            breathe=breathe,
        )
    assert breaths == 5
