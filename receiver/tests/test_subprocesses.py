# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from waiting import until

from livebackup_receiver.errors import CommandFailed, CommandTimedOut
from livebackup_receiver.subprocesses import run, spawn


async def test_output_and_input() -> None:
    done = await run(["cat"], stdin="spoken", timeout_s=10)
    assert (done.stdout, done.returncode) == ("spoken", 0)


async def test_the_error_tells_command_code_and_stderr() -> None:
    with pytest.raises(CommandFailed, match=r"`ls /no/such` ended with 2: ls: cannot access") as caught:
        await run(["ls", "/no/such"], timeout_s=10)
    assert caught.value.returncode == 2


async def test_a_code_may_be_accepted() -> None:
    assert (await run(["false"], timeout_s=10, accept=(1,))).returncode == 1


async def test_a_missing_program_is_named() -> None:
    with pytest.raises(CommandFailed, match="qemu-nothing is not installed"):
        await run(["qemu-nothing", "--help"], timeout_s=10)


async def test_a_program_that_hangs_is_killed() -> None:
    with pytest.raises(CommandTimedOut, match=r"`sleep 3600` was killed after 0.2 seconds"):
        await run(["sleep", "3600"], timeout_s=0.2)
    children = await run(["ps", "--ppid", str(os.getpid()), "-o", "comm="], timeout_s=10)
    assert "sleep" not in children.stdout.split()


async def test_messages_are_not_translated() -> None:
    environment = (await run(["env"], timeout_s=10)).stdout
    assert "LC_ALL=C" in environment
    assert "VIRTUAL_ENV" not in environment


SPAWNER = """
import asyncio, sys
from livebackup_receiver.subprocesses import spawn
async def main():
    with open("/dev/null", "wb") as log:
        process = await spawn(["sleep", "3600"], stderr=log)
    print(process.pid, flush=True)
    await asyncio.sleep(3600)
asyncio.run(main())
"""


async def test_what_runs_on_dies_with_the_receiver() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SPAWNER, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout
    child = Path("/proc") / (await parent.stdout.readline()).decode().strip()

    async def runs() -> bool:
        return child.joinpath("comm").read_text().strip() == "sleep"

    async def gone() -> bool:
        return not child.exists()

    await until(runs)
    parent.kill()
    await parent.wait()
    await until(gone)


async def test_a_spawned_program_has_its_own_stderr(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = await spawn(["ls", "/no/such"], stderr=log)
    assert await process.wait() == 2
    assert "cannot access" in (tmp_path / "log").read_text()
