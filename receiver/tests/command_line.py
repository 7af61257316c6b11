# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`livebackup-receiver` in a process of its own: waited for at once, or while the test goes on."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livebackup_receiver.config import Config

Finished = subprocess.CompletedProcess[str]
Run = Callable[..., Finished]


def write_options(config: Config, path: Path) -> Path:
    """Every option of a configuration as a file."""
    values = config.model_dump(mode="json", exclude_none=True).items()
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values))
    return path


def runner(config: Path, *first: str) -> Run:
    """Runs commands to their end, with a configuration file; ``first`` are the words that all begin with."""

    def run(*arguments: str) -> Finished:
        argv = command(config, *first, *arguments)
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)

    return run


@dataclass(frozen=True)
class Result:
    """What a command has said, and the code it ended with."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def words(self) -> str:
        """What is shown, without what is only layout."""
        assert self.code == 0, self.err
        return " ".join(self.out.split())

    @property
    def refusal(self) -> str:
        """The one line on stderr of a command that failed."""
        assert (self.code != 0, self.out) == (True, "")
        (line,) = self.err.splitlines()
        return line.removeprefix("livebackup-receiver: ")


async def run_command(config: Path, *arguments: str) -> Result:
    """Run a command to its end, with a configuration file."""
    argv = command(config, *arguments)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    return Result(process.returncode or 0, out.decode(), err.decode())


def command(config: Path, *arguments: str) -> list[str]:
    """The words that start a command with a configuration file."""
    return [sys.executable, "-m", "livebackup_receiver", *arguments, "--config", str(config)]
