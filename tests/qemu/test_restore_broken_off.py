# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""restore in the middle: receiver or module killed, hung, cut off; the next run goes on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import backups
import modules
import plays
import pytest
from conftest import MakeMachine
from machine import MIB, Image, Machine, wait_for
from receiving import ReceiverProcess

SIZE = 320 * MIB
DATA = 256 * MIB
# of the partial file, when the middle is reached
MIDDLE = 16 * MIB


@dataclass
class Stage:
    """A point with so much data that a restore can be caught in the middle."""

    receiver: ReceiverProcess
    vm: Machine
    point: str
    dest: Path

    def arguments(self, image_format: str, **options: Any) -> dict[str, Any]:
        common = {"point": self.point, "vm": self.vm.name, "dest": str(self.dest), "format": image_format}
        return {**self.receiver.options("restore"), **common, "stall_limit": 4.0, **options}

    def start(self, image_format: str, **options: Any) -> modules.Running:
        """Start a restore and return in its middle."""
        running = modules.start("restore", **self.arguments(image_format, **options))
        partial = self.dest / f".vd-a.{image_format}.livebackup-partial"

        def reached() -> bool:
            assert running.process.poll() is None, running.result()
            return partial.exists() and partial.stat().st_blocks * 512 > MIDDLE

        deadline = time.monotonic() + 60
        while not reached():
            assert time.monotonic() < deadline
        return running

    def finish(self, image_format: str) -> dict[str, Any]:
        """Run it again, to the right end; the file's part of the result."""
        result = modules.start("restore", **self.arguments(image_format, stall_limit=30.0)).result(180)
        assert not result.get("failed"), result
        path = self.dest / f"vd-a.{image_format}"
        backups.assert_same(path, self.vm.path("a"))
        assert sorted(each.name for each in self.dest.iterdir()) == [
            path.name,
            f"{path.name}.livebackup.json",
        ]
        file: dict[str, Any] = result["files"][0]
        return file


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw image of random data and a hole."""
    path = tmp_path_factory.mktemp("content") / "content.raw"
    with path.open("wb") as file:
        for _dummy in range(DATA // (8 * MIB)):
            file.write(os.urandom(8 * MIB))
        file.truncate(SIZE)
    return path


@pytest.fixture
def stage(make_machine: MakeMachine, receiver: ReceiverProcess, content: Path, tmp_path: Path) -> Stage:
    vm = make_machine(images=(Image("a", bytes=SIZE),), rounds=0)
    vm.stop()
    subprocess.run(["qemu-img", "convert", "-n", "-O", "qcow2", content, vm.path("a")], check=True)
    vm.start()
    backups.track(vm)
    point = modules.start("backup", **backups.arguments(vm, receiver, receiver.open())).result(180)["point"]
    vm.stop()
    dest = tmp_path / "restored"
    dest.mkdir()
    return Stage(receiver, vm, point, dest)


def hang(stage: Stage) -> None:
    for pid in stage.receiver.daemons():
        os.kill(pid, signal.SIGSTOP)


def kill_daemon(stage: Stage) -> None:
    for pid in stage.receiver.daemons():
        os.kill(pid, signal.SIGKILL)


def kill_receiver(stage: Stage) -> None:
    daemons = stage.receiver.daemons()
    stage.receiver.kill()
    for pid in daemons:
        # it ends with the receiver, sooner or later
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def let_go(stage: Stage) -> None:
    for pid in stage.receiver.daemons():
        os.kill(pid, signal.SIGCONT)
    if stage.receiver.process is None or stage.receiver.process.poll() is not None:
        stage.receiver.start()


@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
@pytest.mark.parametrize(
    ("trouble", "words"),
    [(hang, "it sends nothing any more"), (kill_daemon, "was lost"), (kill_receiver, "was lost")],
)
def test_the_receiver_in_the_middle(
    stage: Stage, image_format: str, trouble: Callable[[Stage], None], words: str
) -> None:
    running = stage.start(image_format)
    begun = time.monotonic()
    trouble(stage)
    try:
        result = running.result(60)
        took = time.monotonic() - begun
    finally:
        let_go(stage)
    assert result["failed"]
    assert result["error"]["code"] == "receiver-lost", result
    assert words in result["msg"]
    assert "repeat the task, which goes on where it ended" in result["msg"]
    assert took < 45
    assert [each.name for each in stage.dest.iterdir()] == [f".vd-a.{image_format}.livebackup-partial"]
    file = stage.finish(image_format)
    assert file["resumed_bytes"] > 0
    assert file["resumed_bytes"] + file["fetched_bytes"] == DATA


@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_the_module_killed_in_the_middle(stage: Stage, image_format: str) -> None:
    stage.start(image_format).kill()
    file = stage.finish(image_format)
    assert file["resumed_bytes"] > 0
    assert file["resumed_bytes"] + file["fetched_bytes"] == DATA


def test_a_partial_file_of_anything_is_no_harm(stage: Stage) -> None:
    """It is of another disk, and then it is no image at all: only what is right is kept."""
    partial = stage.dest / ".vd-a.qcow2.livebackup-partial"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", partial, str(SIZE)], check=True)
    command = f"write -P 5 {SIZE - 4 * MIB} 4M"
    subprocess.run(
        ["qemu-io", "-c", command, "-c", "write -P 5 0 1M", partial], check=True, capture_output=True
    )
    assert stage.finish("qcow2")["resumed_bytes"] == 0
    for path in stage.dest.iterdir():
        path.unlink()
    partial.write_bytes(b"nonsense" * 1000)
    assert stage.finish("qcow2")["fetched_bytes"] == DATA


def test_two_restores_of_the_same_file(stage: Stage) -> None:
    running = stage.start("raw")
    os.kill(running.process.pid, signal.SIGSTOP)
    second = modules.run("restore", **stage.arguments("raw"))
    os.kill(running.process.pid, signal.SIGCONT)
    assert second["error"]["code"] == "file-in-use"
    assert "Another restore is writing" in second["msg"]
    assert not running.result(120).get("failed")
    backups.assert_same(stage.dest / "vd-a.raw", stage.vm.path("a"))


def test_no_vm_can_be_started_with_a_disk_that_is_being_replaced(stage: Stage) -> None:
    own = stage.vm.path("a")
    subprocess.run(["qemu-io", "-c", "write -P 3 0 1M", own], check=True, capture_output=True)
    partial = own.with_name(f".{own.name}.livebackup-partial")
    options = {"dest": None, "paths": {"vd-a": str(own)}, "force": True, "delta": True, "stall_limit": 60.0}
    running = modules.start("restore", **stage.arguments("qcow2", **options))
    wait_for(partial.exists, "the middle")
    os.kill(running.process.pid, signal.SIGSTOP)
    try:
        opened = subprocess.run(["qemu-io", "-c", "quit", own], capture_output=True, text=True, check=False)
        assert "lock" in opened.stderr + opened.stdout
    finally:
        os.kill(running.process.pid, signal.SIGCONT)
    file = running.result(120)["files"][0]
    assert (file["kept_bytes"], file["fetched_bytes"]) == (DATA - MIB, MIB)
    assert stage.vm.start().running()


def test_people_can_see_how_far_it_is(stage: Stage, tmp_path: Path) -> None:
    progress = tmp_path / "progress.json"
    running = stage.start("raw", progress_path=str(progress), stall_limit=60.0)
    hang(stage)

    def told() -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(progress.read_text())
        except FileNotFoundError:
            return None
        return found if found["disks"][0]["done_bytes"] else None

    found = wait_for(told, "the progress")
    assert found["disks"][0]["wanted_bytes"] == DATA
    assert found["words"][0].startswith(f"{stage.vm.name}/vd-a: fetching, ")
    let_go(stage)
    assert not running.result(120).get("failed")
    assert not progress.exists()


def test_the_playbook_shows_how_far_it_is(stage: Stage) -> None:
    """As AWX gets it: in the events of the attempts of a task."""
    vms = {"livebackup_restore_vms": [{"vm": stage.vm.name}], "livebackup_restore_stall_limit": 300}
    where = {"livebackup_restore_point": stage.point, "livebackup_restore_to": str(stage.dest)}
    running = plays.start("restore", plays.variables(stage.vm, stage.receiver, **where, **vms), "-vvv")
    partial = stage.dest / stage.vm.name / ".vd-a.qcow2.livebackup-partial"
    wait_for(lambda: partial.exists() and partial.stat().st_blocks * 512 > MIDDLE, "the middle", 180)
    hang(stage)
    assert running.stdout is not None
    seen = next(line for line in running.stdout if "fetching, " in line)
    let_go(stage)
    running.communicate(timeout=300)
    assert f"{stage.vm.name}/vd-a: fetching, " in seen
    assert f" % of {DATA // MIB} MiB" in seen
    assert running.returncode == 0
