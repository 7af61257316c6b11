# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real QEMU with a real (if tiny) guest that writes to its disks."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import guest
from control import Control

MIB = 1 << 20
OURS = ("lb-", "livebackup:")


@dataclass(frozen=True)
class Image:
    """A disk's image; ``options`` go to qemu-img create."""

    name: str
    format: str = "qcow2"
    bytes: int = 32 * MIB
    options: tuple[str, ...] = ()


@dataclass
class Machine:
    """A VM. ``qmp`` is the product's socket; the tests have one of their own."""

    directory: Path
    name: str = "db"
    images: tuple[Image, ...] = (Image("a"), Image("b"))
    rounds: int = 4
    iothreads: bool = False
    extra: tuple[str, ...] = ()
    paused: bool = False
    nameless: bool = False
    secret: str | None = None
    # the guest makes a round when a byte comes over its serial port, which is a socket then
    driven: bool = False
    process: subprocess.Popen[bytes] | None = None
    control: Control | None = None

    @property
    def qmp(self) -> str:
        """The QMP socket for the product."""
        return str(self.directory / f"{self.name}.qmp")

    def path(self, image: str) -> Path:
        """The file of an image."""
        found = next(each for each in self.images if each.name == image)
        return self.directory / f"{self.name}-{image}.{found.format}"

    def create(self) -> Machine:
        """Make images and boot disk."""
        for image in self.images:
            self.create_image(image)
        self.write_boot_disk()
        return self

    def create_image(self, image: Image) -> None:
        """Make the file of one image."""
        command = ["qemu-img", "create", "-q", "-f", image.format, *image.options]
        subprocess.run([*command, str(self.path(image.name)), str(image.bytes)], check=True)

    def write_boot_disk(self) -> None:
        """Make the boot disk of a guest that writes to these images."""
        smallest = min((image.bytes for image in self.images), default=MIB)
        guest.write_boot_disk(
            self.directory / f"{self.name}-boot.img",
            disks=len(self.images),
            disk_bytes=smallest,
            rounds=self.rounds,
        )

    def start(self) -> Machine:
        """Start QEMU and connect the tests' monitor."""
        for path in (self.qmp, self._control_path()):
            Path(path).unlink(missing_ok=True)
        with self._log().open("ab") as log:
            self.process = subprocess.Popen(self._argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(lambda: self._connect() or self._died(), "QEMU's monitor")
        return self

    def _died(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(self._log().read_text())
        return False

    def _connect(self) -> bool:
        try:
            self.control = Control(self._control_path())
        except OSError:
            return False
        return True

    def _argv(self) -> list[str]:
        boot = {"driver": "raw", "node-name": "boot", "read-only": True}
        boot["file"] = {"driver": "file", "filename": str(self.directory / f"{self.name}-boot.img")}
        argv = ["qemu-system-x86_64", "-machine", "q35,accel=tcg", "-nodefaults", "-m", "16"]
        argv += [] if self.nameless else ["-name", self.name]
        argv += ["-object", f"secret,id=key,data={self.secret}"] if self.secret else []
        argv += ["-display", "none", "-boot", "menu=off"]
        serial = f"unix:{self.serial()},server=on,wait=off" if self.driven else f"file:{self.serial()}"
        argv += ["-serial", serial]
        for name, path in (("product", self.qmp), ("control", self._control_path())):
            argv += ["-chardev", f"socket,id={name},path={path},server=on,wait=off"]
            argv += ["-mon", f"chardev={name},mode=control"]
        argv += ["-blockdev", json.dumps(boot), "-device", "virtio-blk-pci,drive=boot,bootindex=0"]
        for index, image in enumerate(self.images, start=1):
            argv += self._disk(index, image)
        return argv + list(self.extra) + (["-S"] if self.paused else [])

    def _disk(self, index: int, image: Image) -> list[str]:
        node: dict[str, Any] = {"driver": image.format, "node-name": f"disk-{image.name}", "discard": "unmap"}
        node["file"] = {"driver": "file", "filename": str(self.path(image.name)), "discard": "unmap"}
        node |= {"encrypt": {"format": "luks", "key-secret": "key"}} if self.secret else {}
        device = f"virtio-blk-pci,id=vd-{image.name},drive=disk-{image.name},bootindex={index}"
        argv = ["-blockdev", json.dumps(node)]
        if self.iothreads:
            argv += ["-object", f"iothread,id=io-{image.name}"]
            device += f",iothread=io-{image.name}"
        return [*argv, "-device", device]

    def serial(self) -> Path:
        """The file or socket of the guest's serial port."""
        return self.directory / f"{self.name}.serial"

    def _log(self) -> Path:
        return self.directory / f"{self.name}.log"

    def _control_path(self) -> str:
        return str(self.directory / f"{self.name}.control")

    def command(self, name: str, /, **arguments: Any) -> Any:
        """Run a QMP command over the tests' monitor; underscores in argument names become hyphens."""
        assert self.control is not None
        return self.control.cmd(name, **{key.replace("_", "-"): value for key, value in arguments.items()})

    def write(self, image: str, *, pattern: int, count: int, offset: int = 0) -> None:
        """Write as the guest's device would, whatever is between it and the image."""
        self._request(image, f"write -P {pattern} {offset} {count}")

    def erase(self, image: str, how: str, *, count: int, offset: int = 0) -> None:
        """Ask as the guest's device would for zeros ("write -z", "write -z -u") or to forget ("discard")."""
        self._request(image, f"{how} {offset} {count}")

    def _request(self, image: str, request: str) -> None:
        device = f"/machine/peripheral/vd-{image}/virtio-backend"
        answer = self.command("human-monitor-command", command_line=f'qemu-io -d {device} "{request}"')
        assert "rror" not in answer, answer

    def rounds_done(self) -> int:
        """How many rounds the guest has made, seen at its last disk's writes."""
        stats = self.command("query-blockstats")
        return min(
            (each["stats"]["wr_operations"] // 2 for each in stats if "vd-" in each["qdev"]), default=0
        )

    def wait_writes(self, rounds: int = 3) -> None:
        """Wait until the guest has made some more rounds."""
        goal = self.rounds_done() + rounds
        wait_for(lambda: self.rounds_done() >= goal, f"{self.name} to write")

    def write_errors(self) -> int:
        """How many writes of the guest have failed."""
        return self.serial().read_bytes().count(b"E")

    def running(self) -> bool:
        """Whether the CPUs run."""
        return bool(self.command("query-status")["running"])

    def bitmaps(self, image: str | None = None) -> dict[str, list[str]]:
        """Names of our bitmaps by node."""
        found = {}
        for node in self.command("query-named-block-nodes", flat=True):
            names = sorted(bitmap["name"] for bitmap in node.get("dirty-bitmaps", []) if "name" in bitmap)
            if names and image in (None, node["node-name"].removeprefix("disk-")):
                found[node["node-name"]] = names
        return found

    def checkpoints(self, image: str) -> list[str]:
        """The restore points whose bitmaps are on an image."""
        names = self.bitmaps(image).get(f"disk-{image}", [])
        others = ("livebackup:tracked", "livebackup:end:")
        return [name.removeprefix("livebackup:") for name in names if not name.startswith(others)]

    def ends(self, image: str) -> list[str]:
        """The restore points whose end bitmaps are on an image."""
        names = self.bitmaps(image).get(f"disk-{image}", [])
        return [name.removeprefix("livebackup:end:") for name in names if name.startswith("livebackup:end:")]

    def leftovers(self) -> list[str]:
        """Everything of ours on the VM that is not a marker or checkpoint bitmap."""
        nodes = [node["node-name"] for node in self.command("query-named-block-nodes", flat=True)]
        objects = [entry["name"] for entry in self.command("qom-list", path="/objects")]
        jobs = [job["id"] for job in self.command("query-jobs")]
        labels = [fd.get("opaque", "") for fdset in self.command("query-fdsets") for fd in fdset["fds"]]
        frozen = [name for names in self.bitmaps().values() for name in names if name == "livebackup:frozen"]
        return sorted(name for name in nodes + objects + jobs + labels + frozen if name.startswith(OURS))

    def devices(self) -> dict[str, str]:
        """Which node each disk's device uses."""
        blocks = self.command("query-block")
        return {
            each["qdev"].split("/")[3]: each["inserted"]["node-name"]
            for each in blocks
            if "vd-" in each["qdev"]
        }

    def stop(self) -> None:
        """End QEMU in an orderly way, so that it stores its bitmaps."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
        self._reap()

    def kill(self) -> None:
        """End QEMU like a power cut."""
        if self.process is not None:
            self.process.kill()
            self._reap()

    def _reap(self) -> None:
        if self.process is None:
            return
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.control is not None:
            self.control.close()
        self.process = self.control = None


def wait_for(condition: Callable[[], Any], what: str, timeout: float = 30.0) -> Any:
    """Return the first true result of a condition; fail if there is none in time."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {timeout} seconds for {what} in vain")


def heads(images: list[Path]) -> list[int]:
    """The guest's count in sector 0 of each image, which may have a backing chain or be in use by nobody."""
    return [struct.unpack("<I", read(image, 4))[0] for image in images]


def read(image: Path, count: int) -> bytes:
    """The first bytes of an image's content."""
    with tempfile.NamedTemporaryFile() as sector:
        command = [
            "qemu-img",
            "dd",
            "-U",
            "-O",
            "raw",
            f"if={image}",
            f"of={sector.name}",
            "bs=512",
            "count=1",
        ]
        subprocess.run(command, check=True)
        return Path(sector.name).read_bytes()[:count]


def free_port() -> int:
    """A TCP port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
