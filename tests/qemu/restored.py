# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A VM that is restored at once: the backup it comes from, its tender, and what its disks must hold."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import backups
import modules
from machine import MIB, Image, Machine, wait_for
from receiving import ReceiverProcess

BLOCK = 4096
UNSEEN = "00000000000000000000000000"


@dataclass
class RestoredMachine(Machine):
    """A VM on overlays; ``on_error`` is its devices' rerror and werror."""

    dest: Path = Path()
    on_error: str = "stop"

    def path(self, image: str) -> Path:
        """The overlay of an image."""
        return self.dest / f"vd-{image}.qcow2"

    def _disk(self, index: int, image: Image) -> list[str]:
        argv = super()._disk(index, image)
        return [*argv[:-1], f"{argv[-1]},rerror={self.on_error},werror={self.on_error}"]

    def status(self) -> str:
        """QAPI RunState."""
        return str(self.command("query-status")["status"])


@dataclass
class Site:
    """A point, the content of its disks, and where it is restored to."""

    receiver: ReceiverProcess
    machine: RestoredMachine
    point: str
    content: dict[str, bytes]
    base: Path
    started: list[RestoredMachine] = field(default_factory=list)

    @property
    def state(self) -> Path:
        """The tender's directory."""
        return self.base / "state" / self.machine.name

    def arguments(self, state: str, **options: Any) -> dict[str, Any]:
        """The module's arguments."""
        common: dict[str, Any] = {"state": state, "vm": self.machine.name, "dest": str(self.machine.dest)}
        common |= {"state_dir": str(self.base / "state"), "run_dir": str(self.base / "run")}
        common |= {"qmp_sockets": [self.machine.qmp]}
        common |= {"point": self.point} if state == "served" else {}
        return {**self.receiver.options("restore"), **common, **options}

    def act(self, state: str, **options: Any) -> dict[str, Any]:
        """Run the module; it must not fail."""
        return modules.succeed("instant_restore", **self.arguments(state, **options))

    def refuse(self, state: str, **options: Any) -> dict[str, Any]:
        """Run the module; it must fail."""
        result = modules.run("instant_restore", **self.arguments(state, **options))
        assert result.get("failed"), result
        return result

    def boot(self) -> RestoredMachine:
        """Start the VM on its overlays."""
        self.machine.write_boot_disk()
        self.machine.start()
        return self.machine

    def tender_pid(self) -> int | None:
        """The tender's process, if there is one."""
        path = self.base / "run" / self.machine.name / "nbdkit.pid"
        with contextlib.suppress(OSError, ValueError):
            pid = int(path.read_text())
            os.kill(pid, 0)
            return pid
        return None

    def kill_tender(self) -> None:
        """SIGKILL the tender, if there is one."""
        pid = self.tender_pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: gone(pid), "the tender's end")

    def leases(self) -> list[dict[str, Any]]:
        """The leases at the receiver."""
        found: list[dict[str, Any]] = self.receiver.call("GET", "/leases", role="read")["leases"]
        return found

    def require_disks(self) -> None:
        """The disks, which nobody has open, hold the point and each write of the guest, and nothing else."""
        counts = {}
        for image in self.machine.images:
            held = content_of(self.machine.path(image.name))
            counts[image.name] = require_content(held, self.content[image.name], image.bytes)
        newest = [counts[image.name] for image in self.machine.images]
        assert newest[0] - newest[-1] in (0, 1), counts


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def content_of(image: Path) -> bytes:
    """What a guest sees of an image."""
    raw = image.with_suffix(".truth")
    subprocess.run(["qemu-img", "convert", "-U", "-O", "raw", str(image), str(raw)], check=True)
    try:
        return raw.read_bytes()
    finally:
        raw.unlink()


def require_content(held: bytes, point: bytes, size: int) -> int:
    """See that a disk holds what the guest (guest.S) has written since; returns its newest count."""
    mask = (1 << ((size // BLOCK - 1).bit_length() - 1)) - 1
    expected = bytearray(point)
    count = 0 if held[:512] == point[:512] else struct.unpack("<I", held[:4])[0]
    for number in range(1, count + 1):
        place = place_of(number, mask)
        expected[place : place + BLOCK] = struct.pack("<I", number) * (BLOCK // 4)
    if count:
        expected[:512] = struct.pack("<I", count) * 128
    # it may have been between the block and the count
    place = place_of(count + 1, mask)
    expected[place : place + BLOCK] = held[place : place + BLOCK]
    wrong = [at for at in range(0, len(held), BLOCK) if held[at : at + BLOCK] != expected[at : at + BLOCK]]
    assert len(held) == len(expected)
    assert not wrong, (count, len(wrong), wrong[:8])
    return int(count)


def place_of(number: int, mask: int) -> int:
    """Where the guest writes the block of a count."""
    return ((number * 0x9E3779B1 & 0xFFFFFFFF) >> 8 & mask) * BLOCK + BLOCK


def back_up(machine: Machine, receiver: ReceiverProcess) -> str:
    """Make two points of a VM with something in it; returns the newest."""
    backups.track(machine)
    for number, image in enumerate(machine.images, start=1):
        for at in range(0, image.bytes // 2, 3 * MIB):
            machine.write(image.name, pattern=number + at // MIB, offset=at, count=MIB + 4096)
    backups.back_up(machine, receiver)
    machine.write(machine.images[0].name, pattern=77, offset=5 * MIB, count=2 * MIB)
    return str(backups.back_up(machine, receiver)["point"])


@contextlib.contextmanager
def site(machine: Machine, receiver: ReceiverProcess, base: Path) -> Iterator[Site]:
    """A VM that was backed up and is gone; what is started of its restore ends with the block."""
    point = back_up(machine, receiver)
    machine.stop()
    content = {image.name: content_of(machine.path(image.name)) for image in machine.images}
    place = base / "restored"
    dest = base / "disks"
    for directory in (place, dest):
        directory.mkdir()
    restored = RestoredMachine(place, name=machine.name, images=machine.images, dest=dest)
    made = Site(receiver, restored, point, content, base)
    try:
        yield made
    finally:
        restored.kill()
        made.kill_tender()


def _info(image: Path) -> dict[str, object]:
    described = subprocess.run(
        ["qemu-img", "info", "-U", "--output=json", image], capture_output=True, text=True, check=True
    )
    found: dict[str, object] = json.loads(described.stdout)
    return found


def processes(receiver: ReceiverProcess) -> list[int]:
    """The receiver and its storage daemons."""
    assert receiver.process is not None
    return [receiver.process.pid, *receiver.daemons()]


def require_moved(site: Site) -> None:
    """Nothing is left of the restore but the disks."""
    for image in site.machine.images:
        found = _info(site.machine.path(image.name))
        assert "backing-filename" not in found
        assert not found.get("dirty-flag")
    assert site.tender_pid() is None
    assert site.leases() == []
    assert not site.state.exists()


def paused(vm: Machine) -> bool:
    """Whether a job of the move waits."""
    return any(job["status"] == "paused" for job in vm.command("query-jobs"))
