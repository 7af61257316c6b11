# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""When the watchdog kills its parent."""

from __future__ import annotations

from ansible_collections.livebackup.qemu.plugins.module_utils._watchdog import Watch


def test_a_parent_that_shows_itself_lives() -> None:
    watch = Watch(heard_at=100.0, silence=8.0)
    assert watch.deadline() == 108.0
    watch.take({}, 107.0)
    assert watch.deadline() == 115.0


def test_the_stop_window_ends_whatever_the_parent_says() -> None:
    watch = Watch(heard_at=100.0, silence=8.0)
    watch.take({"budget": 3.0, "vms": [{"vm": "db"}]}, 101.0)
    watch.take({}, 103.0)
    assert watch.deadline() == 104.0
    assert watch.vms == [{"vm": "db"}]


def test_after_the_window_only_silence_counts() -> None:
    watch = Watch(heard_at=100.0, silence=8.0)
    watch.take({"budget": 3.0, "vms": [{"vm": "db"}]}, 101.0)
    watch.take({"budget": None, "vms": []}, 102.0)
    assert watch.deadline() == 110.0
    assert watch.vms == []
