# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from two_hosts import daemons

from livebackup_receiver import subprocesses
from livebackup_receiver.errors import StorageDaemonFailed
from livebackup_receiver.storage_daemon import process
from livebackup_receiver.storage_daemon.process import storage_daemon


async def test_it_answers_and_is_gone_afterwards() -> None:
    async with storage_daemon("session 1") as daemon:
        assert "qemu" in await daemon.execute("query-version")
        directory = daemon.directory
        assert directory.stat().st_mode & 0o777 == 0o700
    assert await daemons() == []
    assert not directory.exists()


async def test_it_is_gone_after_an_error_too() -> None:
    with pytest.raises(ZeroDivisionError):
        async with storage_daemon("session 1"):
            raise ZeroDivisionError
    assert await daemons() == []


async def test_it_is_gone_after_being_cancelled_twice() -> None:
    started = asyncio.Event()

    async def use() -> None:
        async with storage_daemon("session 1"):
            started.set()
            await asyncio.sleep(3600)

    user = asyncio.create_task(use())
    await started.wait()
    user.cancel()
    await asyncio.sleep(0)
    user.cancel()
    await asyncio.wait({user})
    assert await daemons() == []


@pytest.mark.parametrize("steps", range(0, 40, 4))
async def test_it_is_gone_when_its_start_is_cancelled(steps: int) -> None:
    async def use() -> None:
        async with storage_daemon("session 1"):
            await asyncio.sleep(3600)

    user = asyncio.create_task(use())
    for dummy in range(steps):
        await asyncio.sleep(0.001)
    user.cancel()
    await asyncio.wait({user})
    assert await daemons() == []


async def test_quit_ends_it_in_order() -> None:
    async with storage_daemon("session 1") as daemon:
        await daemon.quit()
        assert daemon.process.returncode == 0


async def test_a_daemon_that_does_not_quit_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "QUIT_TIMEOUT_S", 0.1)

    async def take_but_do_not_do(command: str) -> None:
        assert command == "quit"

    async with storage_daemon("session 1") as daemon:
        monkeypatch.setattr(daemon, "execute", take_but_do_not_do)
        await daemon.quit()
        assert daemon.process.returncode is None
    assert await daemons() == []


async def test_what_it_refuses_is_told_in_its_words() -> None:
    async with storage_daemon("session 1") as daemon:
        with pytest.raises(
            StorageDaemonFailed, match="session 1 could not blockdev-del: Failed to find node"
        ):
            await daemon.execute("blockdev-del", {"node-name": "nothing"})


async def test_a_job_that_fails_is_told(tmp_path: Path) -> None:
    options = {"driver": "file", "filename": str(tmp_path / "none" / "file"), "size": 0}
    async with storage_daemon("session 1") as daemon:
        with pytest.raises(StorageDaemonFailed, match="No such file or directory"):
            await daemon.run_job("blockdev-create", {"options": options})
        assert await daemon.execute("query-jobs") == []


async def test_its_death_is_noticed_and_named() -> None:
    async with storage_daemon("session 1") as daemon:
        os.kill(daemon.process.pid, signal.SIGKILL)
        error = await daemon.wait_dead()
        assert str(error).startswith(
            "the storage daemon of session 1 could not go on: it was killed by signal 9"
        )
        with pytest.raises(StorageDaemonFailed, match="could not query-version"):
            await daemon.execute("query-version")


async def test_a_daemon_that_does_not_answer_is_given_up() -> None:
    async with storage_daemon("session 1", timeout_s=0.2) as daemon:
        os.kill(daemon.process.pid, signal.SIGSTOP)
        with pytest.raises(StorageDaemonFailed, match=r"no answer for 0\.2 seconds"):
            await daemon.execute("query-version")
    assert await daemons() == []


async def test_a_start_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first start meets a daemon that crashes, as QEMU's does once in some thousand times."""
    crashing = tmp_path / "qemu-storage-daemon"
    crashing.write_text("#!/bin/sh\nrm $0\necho crashed >&2\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    path = subprocesses.ENVIRONMENT["PATH"]
    monkeypatch.setitem(subprocesses.ENVIRONMENT, "PATH", f"{tmp_path}:{path}")
    async with storage_daemon("session 1") as daemon:
        assert not crashing.exists()
        assert await daemon.execute("query-version")


async def test_a_daemon_that_never_starts_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashing = tmp_path / "qemu-storage-daemon"
    crashing.write_text("#!/bin/sh\necho out of order >&2\nexit 3\n")
    crashing.chmod(0o755)
    path = subprocesses.ENVIRONMENT["PATH"]
    monkeypatch.setitem(subprocesses.ENVIRONMENT, "PATH", f"{tmp_path}:{path}")
    with pytest.raises(StorageDaemonFailed, match=r"session 1 could not start: .*out of order"):
        async with storage_daemon("session 1"):
            pass
