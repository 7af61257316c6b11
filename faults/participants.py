# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules that a suite runs, as processes that can be killed."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules import COLLECTIONS

from faults import ROOT


@dataclass(frozen=True)
class Started:
    """A module that has been started."""

    pid: int
    output: Path

    def result(self) -> dict[str, Any]:
        """What it returned; empty if it was killed."""
        for line in reversed(self.output.read_text(errors="replace").splitlines()):
            with contextlib.suppress(ValueError):
                found: dict[str, Any] = json.loads(line)
                return found
        return {}

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


class Modules:
    """Starts modules and knows which have ended; make it with ``modules``."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path) -> None:
        self._process = process
        self._directory = directory
        self._numbers = itertools.count()
        self._ended: set[int] = set()
        self._started: list[int] = []
        self._pending = b""

    def start(self, name: str, arguments: dict[str, Any], **environment: str) -> Started:
        """Start a module."""
        assert self._process.stdin is not None
        output = self._directory / f"{name}-{next(self._numbers)}.out"
        arguments = arguments | {"_ansible_remote_tmp": str(self._directory)}
        request = {"name": name, "arguments": arguments, "environment": environment, "output": str(output)}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        while not self._started:
            self._listen(1.0)
        return Started(self._started.pop(), output)

    def ended(self, started: Started) -> bool:
        """Whether a module has ended."""
        self._listen(0.0)
        return started.pid in self._ended

    def wait(self, started: Started, timeout: float) -> bool:
        """Wait for the end of a module; whether it came in time."""
        deadline = time.monotonic() + timeout
        while not self.ended(started) and time.monotonic() < deadline:
            self._listen(0.05)
        return self.ended(started)

    def run(self, name: str, arguments: dict[str, Any], timeout: float = 60.0) -> dict[str, Any]:
        """Run a module that must not fail."""
        started = self.start(name, arguments)
        if not self.wait(started, timeout):
            raise RuntimeError(f"the module {name} does not end")
        result = started.result()
        if not result or result.get("failed"):
            raise RuntimeError(f"the module {name} failed: {result.get('msg') or started.output.read_text()}")
        return result

    def _listen(self, timeout: float) -> None:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            return
        data = os.read(self._process.stdout.fileno(), 1 << 16)
        if not data:
            raise RuntimeError("the process that starts modules has ended")
        *lines, self._pending = (self._pending + data).split(b"\n")
        for message in map(json.loads, lines):
            if "started" in message:
                self._started.append(message["started"])
            else:
                self._ended.add(message["ended"])


@contextlib.contextmanager
def modules(directory: Path) -> Iterator[Modules]:
    """Modules whose results and temporary files go to a directory, which must be there."""
    environment = os.environ | {"PYTHONPATH": f"{COLLECTIONS}:{ROOT}", "TMPDIR": str(directory)}
    process = subprocess.Popen(
        [sys.executable, "-m", "faults.zygote"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        cwd=ROOT,
    )
    try:
        yield Modules(process, directory)
    finally:
        process.kill()
        process.wait()
