# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs of `python -m lab` do what they say."""

from __future__ import annotations

import os
import subprocess
import sys

from lab import paths
from lab.lab import Lab


def verb(lab: str, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "lab", *words],
        cwd=paths.CHECKOUT,
        env={**os.environ, "LIVEBACKUP_LAB": lab},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def test_up_and_down() -> None:
    name = f"pytest-cli-{os.getpid()}"
    verb(name, "up", "--hosts", "hv3,rcv2", "--no-vms")
    assert "10.78.0.15" in verb(name, "status").stdout
    assert verb(name, "shell", "hv3", "hostname").stdout == "hv3\n"
    verb(name, "down")
    assert not Lab(name).box.running
    assert "hv3" not in verb(name, "status").stdout


def test_exec_runs_on_the_controller_with_its_options_untouched(lab: Lab) -> None:
    addresses = verb(lab.name, "exec", "ip", "-br", "addr").stdout
    assert "br0" in addresses
    assert "10.78.0.1/24" in addresses
    assert verb(lab.name, "exec", "sh", "-c", "exit 3", status=3).stdout == ""


def test_faults_are_made_and_ended(lab: Lab) -> None:
    verb(lab.name, "partition", "hv1", "hv2")
    assert len(lab.network.partitions()) == 2
    verb(lab.name, "heal")
    assert lab.network.partitions() == []
    verb(lab.name, "link", "hv2", "down")
    assert not lab.network.link_is_up("hv2")
    verb(lab.name, "link", "hv2", "up")
    assert lab.network.link_is_up("hv2")
    verb(lab.name, "kill", "hv2")
    assert not lab.host("hv2").running
    verb(lab.name, "start", "hv2")
    assert lab.host("hv2").running


def test_mistakes_are_answered_in_one_sentence(lab: Lab) -> None:
    unknown = verb(lab.name, "partition", "hv1", "moon", status=1).stderr
    known = "hv1, hv2, rcv, hv3, rcv2"
    assert unknown == f"lab: The lab has no host named moon; choose one of {known}.\n"
    absent = verb("pytest-absent", "exec", "true", status=1).stderr
    assert absent == "lab: The lab pytest-absent is not running; start it with `python -m lab up`.\n"
