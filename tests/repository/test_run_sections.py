# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run of all tests must not look green when something failed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[1] / "tools" / "run_sections.py"
MAKEFILE = """
good:
\t@echo working
bad:
\t@exit 3
counted:
\t@echo '<testsuite tests="5" errors="0" failures="1" skipped="1"/>' > counted.xml; exit 1
stale:
\t@true
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Makefile").write_text(MAKEFILE)
    return tmp_path


def run(folder: Path, *verbs: str) -> tuple[int, list[str]]:
    command = [sys.executable, str(TOOL), "--results", str(folder), *verbs]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


def test_success_counts_a_verb_without_report_as_one(folder: Path) -> None:
    code, lines = run(folder, "good")
    assert (code, lines[-1]) == (0, "1 passed, 0 failed")


def test_failure_does_not_keep_later_verbs_from_running(folder: Path) -> None:
    code, lines = run(folder, "bad", "good")
    assert (code, lines[-1]) == (1, "1 passed, 1 failed")
    assert any(line.startswith("FAILED bad ") for line in lines)


def test_tests_of_a_report_are_counted_one_by_one(folder: Path) -> None:
    code, lines = run(folder, "counted")
    assert (code, lines[-1]) == (1, "3 passed, 1 failed")
    assert "1 failed, 3 passed, 1 skipped" in lines[-2]


def test_report_of_an_earlier_run_is_not_believed(folder: Path) -> None:
    (folder / "stale.xml").write_text('<testsuite tests="9" errors="9" failures="0" skipped="0"/>')
    code, lines = run(folder, "stale")
    assert (code, lines[-1]) == (0, "1 passed, 0 failed")
