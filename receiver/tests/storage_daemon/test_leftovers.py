# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from livebackup_receiver.storage_daemon.leftovers import sweep
from livebackup_receiver.storage_daemon.process import storage_daemon


@asynccontextmanager
async def orphan(directory: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A storage daemon that nobody guards, with its stderr in a directory."""
    directory.mkdir(parents=True)
    with (directory / "stderr").open("wb") as stderr:
        process = await asyncio.create_subprocess_exec("qemu-storage-daemon", stderr=stderr)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_daemon_of_an_earlier_run_is_killed_and_its_key_removed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    async with orphan(run / "livebackup-1") as process:
        (run / "livebackup-1" / "keys.psk").write_text("session-1:00\n")
        sweep(run)
        assert await process.wait() == -9
    assert list(run.iterdir()) == []


async def test_a_daemon_elsewhere_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    async with orphan(tmp_path / "run-of-another") as process:
        sweep(tmp_path / "run")
        assert process.returncode is None
        assert Path(f"/proc/{process.pid}").exists()
    sweep(tmp_path / "never-made")


async def test_a_daemons_directory_lies_where_it_is_told_to(tmp_path: Path) -> None:
    async with storage_daemon("session 1", run=tmp_path) as daemon:
        assert daemon.directory.parent == tmp_path
        assert daemon.directory.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []
