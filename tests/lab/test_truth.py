# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The truth script copies the disks of standing machines fast, and its copies equal that instant only."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lab import truth
from lab.errors import CommandFailed
from lab.lab import Lab
from lab.truth import Verdict
from lab.vm import Vm

# Guests boot under emulation, and the machine may be busy.
pytestmark = pytest.mark.timeout(400)

SESSION = "01J00000000000000000000000"


def take(lab: Lab, vms: str) -> float:
    """Run the script as a participant does, and return how long it took in seconds."""
    began = time.monotonic()
    lab.host("hv1").run([truth.COMMAND], env={"LIVEBACKUP_SESSION": SESSION, "LIVEBACKUP_VMS": vms})
    return time.monotonic() - began


def test_the_truth_is_equal_to_the_instant_and_to_no_other(lab: Lab, guests: dict[str, Vm]) -> None:
    db, app = guests["db"], guests["app"]
    app.wait_for_record(20)
    copies = {name: lab.host("hv1").path(truth.copy_path(SESSION, name, "a")) for name in ("db", "app")}
    with db.paused(), app.paused():
        assert take(lab, "db,app") < 1
        for name, copy in copies.items():
            assert truth.compare(guests[name].disk_path("a"), copy).verdict is Verdict.EQUAL
    assert truth.compare(copies["db"], copies["app"]).verdict is Verdict.DIFFERS
    app.wait_for_record(app.newest().b + 5)
    with app.paused():
        assert truth.compare(app.disk_path("a"), copies["app"]).verdict is Verdict.DIFFERS


def test_a_machine_without_disks_fails_the_script(lab: Lab) -> None:
    with pytest.raises(CommandFailed, match="cannot stat"):
        lab.host("hv1").run([truth.COMMAND], env={"LIVEBACKUP_SESSION": "s", "LIVEBACKUP_VMS": "nobody"})


def test_a_comparison_that_cannot_be_made_is_not_called_different(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(bytes(4096))
    (tmp_path / "broken").write_bytes(b"QFI\xfb" + b"\xff" * 600)
    assert truth.compare(tmp_path / "real", tmp_path / "absent").verdict is Verdict.UNKNOWN
    assert truth.compare(tmp_path / "real", tmp_path / "broken").verdict is Verdict.UNKNOWN
