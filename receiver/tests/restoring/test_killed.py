# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command itself, killed at any moment, and run again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from command_line import command, runner, write_options
from sample_store import SampleStore, Write, run

from livebackup_receiver.catalog.points import list_points
from livebackup_receiver.config import Config
from livebackup_receiver.model import Point

pytestmark = pytest.mark.timeout(600)

MIB = 1 << 20
SIZE = 320 * MIB
DISKS = [("db", "vd-a"), ("web", "vd-a")]


@pytest.fixture
def point(store: SampleStore) -> Point:
    """Two VMs; of each disk 280 MiB in three layers."""
    sizes = dict.fromkeys(DISKS, SIZE)
    whole = [Write(at * MIB, 40 * MIB, at + 1) for at in range(0, 280, 40)]
    store.add(dict.fromkeys(DISKS, whole), sizes=sizes)
    store.add({disk: [Write(at * MIB, MIB, at % 250) for at in range(1, 250, 7)] for disk in DISKS})
    few = [Write(at * MIB + 65536, 65536, at % 250) for at in range(0, 250, 3)]
    return store.add(dict.fromkeys(DISKS, few))


@pytest.fixture
def truth(store: SampleStore, point: Point, tmp_path: Path) -> dict[str, Path]:
    """What QEMU reads at the point, by VM."""
    found = {}
    for vm, disk in DISKS:
        found[vm] = tmp_path / f"{vm}.truth"
        run("qemu-img", "convert", "-O", "raw", str(store.layer(point, vm, disk)), str(found[vm]))
    return found


@pytest.fixture
def options(config: Config, tmp_path: Path) -> Path:
    return write_options(config, tmp_path / "receiver.toml")


def kill_when(argv: list[str], due: Callable[[], bool]) -> bool:
    """Start a command and kill it as soon as something is so; whether it was still running."""
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not due():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    return process.wait(60) == -signal.SIGKILL


def written(out: Path) -> int:
    """The bytes in partial files."""
    total = 0
    for path in out.glob("*/*.partial"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def has_written(out: Path, enough: int) -> bool:
    return written(out) >= enough


def has_kept(out: Path) -> bool:
    return any(out.glob("*/*.partial.json"))


def require_same(out: Path, format: str, truth: dict[str, Path]) -> None:
    for vm, disk in DISKS:
        compared = ["qemu-img", "compare", "-f", format, "-F", "raw"]
        run(*compared, str(out / vm / f"{disk}.{format}"), str(truth[vm]))
    assert sorted(path.name for path in out.glob("*/*")) == [f"vd-a.{format}"] * 2


@pytest.mark.parametrize("format", ["qcow2", "raw"])
def test_a_killed_restore_is_gone_on_with_and_has_no_wrong_byte(
    options: Path, point: Point, truth: dict[str, Path], tmp_path: Path, format: str
) -> None:
    out = tmp_path / "out"
    words = ["restore", point.id, "--to", str(out), "--format", format]
    assert kill_when(command(options, *words), lambda: has_kept(out))
    assert not list(out.glob(f"*/*.{format}"))
    done = runner(options)(*words)
    assert done.returncode == 0, done.stderr
    assert ": went on where an earlier run had ended, after" in done.stderr
    require_same(out, format, truth)


@pytest.mark.parametrize("seed", [1, 2])
def test_kills_at_any_moment(
    options: Path, point: Point, truth: dict[str, Path], tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    out = tmp_path / "out"
    words = ["restore", point.id, "--to", str(out)]
    for dummy in range(6):
        enough, wait = chance.randrange(2 * 280 * MIB), chance.random() * 0.2
        until = time.monotonic() + 30

        def due(enough: int = enough, wait: float = wait, until: float = until) -> bool:
            if written(out) < enough:
                return time.monotonic() > until
            time.sleep(wait)
            return True

        if not kill_when(command(options, *words), due):
            break
    done = runner(options)(*words)
    if done.returncode:
        # The last kill came after everything had its name.
        assert "already exists" in done.stderr
        assert not has_kept(out)
    require_same(out, "qcow2", truth)


def test_the_older_copy_is_whole_until_it_is_replaced(
    options: Path, store: SampleStore, point: Point, truth: dict[str, Path], tmp_path: Path
) -> None:
    out, chance = tmp_path / "out", random.Random(3)
    with store.catalog.read() as db:
        oldest = list_points(db)[-1]
    assert runner(options)("restore", oldest.id, "--to", str(out)).returncode == 0
    before = {vm: (out / vm / "vd-a.qcow2").read_bytes() for vm, dummy in DISKS}
    words = ["restore", point.id, "--to", str(out), "--delta"]
    for dummy in range(3):
        enough = chance.randrange(MIB, 500 * MIB)
        if not kill_when(command(options, *words), partial(has_written, out, enough)):
            break
        if any(out.glob("*/*.partial")):
            assert {vm: (out / vm / "vd-a.qcow2").read_bytes() for vm in before} == before
    done = runner(options)(*words)
    assert done.returncode == 0, done.stderr
    require_same(out, "qcow2", truth)
    assert os.listdir(out / "db") == ["vd-a.qcow2"]
