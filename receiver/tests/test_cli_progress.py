# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a restore while it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from livebackup_receiver import cli_progress
from livebackup_receiver.cli_progress import RestoreProgress
from livebackup_receiver.restore import DiskRestore, Stage

MIB = 1 << 20
DISK = DiskRestore("db", "vd-a", (), Path("vd-a.qcow2"), 4096 * MIB)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its only entry is what the clock says."""
    now = [100.0]
    monkeypatch.setattr(cli_progress, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_every_ten_seconds(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with RestoreProgress() as progress:
        for second in range(25):
            clock[0] = 100.0 + second
            progress.update(DISK, Stage.WRITING, 50 * MIB * second, 4096 * MIB)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "db vd-a: writing, 500.0 MiB of 4.0 GiB, 50.0 MiB/s",
        "db vd-a: writing, 1000.0 MiB of 4.0 GiB, 50.0 MiB/s",
    ]


def test_what_was_there_before_is_not_the_speed_of_now(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with RestoreProgress() as progress:
        progress.update(DISK, Stage.WRITING, 2048 * MIB, 4096 * MIB)
        clock[0] += 10
        progress.update(DISK, Stage.WRITING, 2058 * MIB, 4096 * MIB)
    assert capsys.readouterr().err == "db vd-a: writing, 2.0 GiB of 4.0 GiB, 1.0 MiB/s\n"


def test_a_short_restore_says_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with RestoreProgress() as progress:
        for stage in Stage:
            progress.update(DISK, stage, 0, MIB)
            progress.update(DISK, stage, MIB, MIB)
    assert capsys.readouterr().err == ""
