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
from livebackup_receiver.subprocesses import run, run_in_thread, spawn


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


def test_a_thread_is_given_what_is_said_on_stdout() -> None:
    assert run_in_thread(["sh", "-c", "echo spoken; echo shouted >&2"]) == "spoken\n"


def test_a_thread_s_program_has_the_same_environment_and_nothing_to_read() -> None:
    environment = run_in_thread(["env"])
    assert "LC_ALL=C" in environment
    assert "VIRTUAL_ENV" not in environment
    assert run_in_thread(["cat"]) == ""


def test_a_thread_is_told_command_code_and_stderr() -> None:
    with pytest.raises(CommandFailed, match=r"`qemu-img info '/no where'` ended with 1: .*No such file"):
        run_in_thread(["qemu-img", "info", "/no where"])


def test_an_error_may_be_on_stdout_alone(tmp_path: Path) -> None:
    """`qemu-img compare` has nothing to say on stderr if images differ."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_bytes(bytes(4096))
    theirs.write_bytes(bytes(2048) + b"?" * 2048)
    with pytest.raises(CommandFailed, match=r"ended with 1: Content mismatch at offset 20\d\d!"):
        run_in_thread(["qemu-img", "compare", "-f", "raw", "-F", "raw", str(ours), str(theirs)])


def test_a_program_that_a_thread_misses_is_named() -> None:
    with pytest.raises(CommandFailed, match="qemu-nothing is not installed") as caught:
        run_in_thread(["qemu-nothing", "--help"])
    assert caught.value.returncode == 127


def test_a_thread_does_not_wait_for_a_program_that_hangs(tmp_path: Path) -> None:
    with pytest.raises(CommandTimedOut, match=r"was killed after 0.5 seconds"):
        run_in_thread(announced(tmp_path), timeout_s=0.5)
    assert not told(tmp_path).exists()


def test_a_program_is_killed_when_somebody_objects(tmp_path: Path) -> None:
    def object_to_it() -> None:
        if (tmp_path / "pid").exists():
            raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        run_in_thread(announced(tmp_path), look=object_to_it)
    assert not told(tmp_path).exists()


def announced(directory: Path) -> list[str]:
    """A program that runs on, and says in a file which process it is."""
    said = f"echo $$ > {directory}/new; mv {directory}/new {directory}/pid; exec sleep 3600"
    return ["sh", "-c", said]


def told(directory: Path) -> Path:
    """That process; there is none when it has ended and its end was taken note of."""
    return Path("/proc") / (directory / "pid").read_text().strip()


def test_what_is_said_at_length_is_taken_while_the_program_runs() -> None:
    assert len(run_in_thread(["head", "-c", "1000000", "/dev/zero"])) == 1000000


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
THREAD = """
import threading
from livebackup_receiver.subprocesses import run_in_thread
argv = ["sh", "-c", "echo $$ > /proc/$PPID/fd/1; exec sleep 3600"]
threading.Thread(target=run_in_thread, args=(argv,)).start()
"""


@pytest.mark.parametrize("starts", [SPAWNER, THREAD], ids=["loop", "thread"])
async def test_what_runs_on_dies_with_the_receiver(starts: str) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", starts, stdout=asyncio.subprocess.PIPE
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
