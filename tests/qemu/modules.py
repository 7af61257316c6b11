# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules as processes of their own, so that they can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COLLECTIONS = Path(__file__).parents[2] / "build/collections"


@dataclass
class Running:
    """A module that runs."""

    name: str
    process: subprocess.Popen[str]

    def result(self, timeout: float = 90.0) -> dict[str, Any]:
        """Wait for its end and return what it returned, failed or not."""
        stdout, stderr = self.process.communicate(timeout=timeout)
        assert stdout.strip(), f"{self.name} gave no result, status {self.process.returncode}: {stderr}"
        found: dict[str, Any] = json.loads(stdout.strip().splitlines()[-1])
        return found

    def kill(self) -> None:
        """SIGKILL it and wait; it may have ended."""
        self.process.kill()
        if self.process.stdout and not self.process.stdout.closed:
            self.process.communicate()


RUNNING: list[Running] = []


def start(name: str, *, check: bool = False, **arguments: Any) -> Running:
    """Start a module."""
    arguments = {
        **arguments,
        "_ansible_check_mode": check,
        "_ansible_diff": True,
        "_ansible_remote_tmp": "/tmp",
    }
    environment = {**os.environ, "PYTHONPATH": str(COLLECTIONS)}
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("module_process.py")), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(arguments))
    process.stdin.close()
    process.stdin = None
    RUNNING.append(Running(name, process))
    return RUNNING[-1]


def run(name: str, **arguments: Any) -> dict[str, Any]:
    """Run a module and return its result, failed or not."""
    return start(name, **arguments).result()


def succeed(name: str, **arguments: Any) -> dict[str, Any]:
    """Run a module that must not fail."""
    result = run(name, **arguments)
    assert not result.get("failed"), result["msg"]
    return result
