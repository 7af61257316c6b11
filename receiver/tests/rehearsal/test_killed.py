# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command, told to stop and killed: nothing of a rehearsal outlives it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from command_line import run_command, write_options
from rehearsal_guests import add_point, member, plan, waiting
from sample_store import SampleStore
from waiting import until

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.config import Config
from livebackup_receiver.model import Point
from livebackup_receiver.store.paths import Store

pytestmark = pytest.mark.timeout(300)

NAME = "db-that-is-killed"


@pytest.fixture
def path(config: Config, tmp_path: Path) -> Path:
    return write_options(config, tmp_path / "receiver.toml")


@pytest.fixture
def point(store: SampleStore) -> Point:
    return add_point(store, {NAME: "db is up"})


def processes(store: Path) -> list[str]:
    """What runs for rehearsals of a store, and all guests of that name."""
    found = []
    for each in Path("/proc").iterdir():
        with suppress(OSError):
            if each.name.isdigit() and _belongs(each, store):
                found.append((each / "cmdline").read_text().replace("\0", " ")[:80])
    return found


def _belongs(process: Path, store: Path) -> bool:
    words = (process / "cmdline").read_text().split("\0")
    if "livebackup_receiver" in words:
        return False
    messages = str((process / "fd/2").readlink())
    return NAME in words or messages.startswith(str(store / "rehearsals"))


async def _guests(store: Path) -> bool:
    return any("qemu-system" in each for each in processes(store))


async def _nobody(store: Path) -> bool:
    return not processes(store)


@asynccontextmanager
async def rehearsing(path: Path, point: Point, store: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A command that waits for a guest that has started."""
    argv = [
        sys.executable,
        "-m",
        "livebackup_receiver",
        "rehearse",
        point.id,
        "--json",
        "--config",
        str(path),
    ]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        await until(lambda: _guests(store), timeout_s=120)
        assert len(processes(store)) > 2
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_killed_it_leaves_no_process_and_the_next_one_removes_its_files(
    config: Config, catalog: Catalog, path: Path, point: Point
) -> None:
    plan(catalog, config, waiting(NAME, timeout_s=600))
    store = Store(config.store)
    async with rehearsing(path, point, config.store) as process:
        (left,) = store.rehearsing.iterdir()
        process.kill()
        await process.wait()
        await until(lambda: _nobody(config.store), timeout_s=30)
    assert left.is_dir()
    plan(catalog, config, member(NAME))
    again = await run_command(path, "rehearse", "--group", "nightly", "--json")
    assert again.json["outcome"] == "passed"
    assert list(store.rehearsing.iterdir()) == []


async def test_told_to_stop_it_says_that_it_could_not_run(
    config: Config, catalog: Catalog, path: Path, point: Point
) -> None:
    plan(catalog, config, waiting(NAME, timeout_s=600))
    async with rehearsing(path, point, config.store) as process:
        process.send_signal(signal.SIGTERM)
        out, dummy = await process.communicate()
    result = json.loads(out)
    assert (result["outcome"], result["reason"]) == (
        "could-not-run",
        "it was stopped before it was done",
    )
    assert process.returncode == 12
    assert processes(config.store) == []
    shown = await run_command(path, "rehearse", "show", result["id"], "--json")
    assert shown.json == result


async def test_exit_codes_and_words_tell_the_three_apart(
    config: Config, catalog: Catalog, path: Path, point: Point
) -> None:
    plan(catalog, config, member(NAME))
    passed = await run_command(path, "rehearse", point.id)
    assert (passed.code, "of group nightly: passed" in passed.out) == (0, True)
    plan(catalog, config, waiting(NAME, timeout_s=4))
    failed = await run_command(path, "rehearse", "run", point.id)
    assert (failed.code, "it did not boot" in failed.out) == (1, True)
    assert f"the end of the console of {NAME}:" in failed.out
    assert "db is up" in failed.out
    plan(catalog, config, member(NAME, boot={"memory_mib": 1 << 22}))
    unable = await run_command(path, "rehearse", "--group", "nightly")
    assert (unable.code, ": could not run, the VMs need" in unable.out) == (12, True)
    listed = await run_command(path, "rehearse", "list", "nightly", "--json")
    assert [each["outcome"] for each in listed.json["rehearsals"]] == ["could-not-run", "failed", "passed"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["01JD2M3V5W6X7Y8Z9A0B1C2D3E"], 5, "point 01JD2M3V5W6X7Y8Z9A0B1C2D3E does not exist"),
        (["--group", "daily"], 5, "group daily has never been backed up here"),
        (["show", "01JD2M3V5W6X7Y8Z9A0B1C2D3E"], 5, "rehearsal 01JD2M3V5W6X7Y8Z9A0B1C2D3E does not exist"),
        (["show", "../../etc"], 5, "rehearsal ../../etc does not exist"),
        (["--group", "nightly", "--vm", "mail"], 5, "VM mail is not in point"),
    ],
)
async def test_what_cannot_be_rehearsed_is_said(
    path: Path, point: Point, arguments: list[str], code: int, words: str
) -> None:
    refused = await run_command(path, "rehearse", *arguments)
    assert (refused.code, words in refused.refusal) == (code, True)
