# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instant restore: from the request to the guest's first read and its first line, for disks of any size.

The guest boots from the restored disk itself: its firmware reads the first sector, which says its line on the
console. The time begins when the module is started, and includes the start of QEMU.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qemu.qmp.legacy import QEMUMonitorProtocol

from bench import loopback
from bench.chains import CLUSTER, DISK, VM, ChainStore, catalog_of, scattered
from bench.report import Figure

ROUNDS = 5
GIB = 1 << 30
SIZES = {"1g": GIB, "100g": 100 * GIB, "4t": 4096 * GIB}
# of data, anywhere on the disk; each restore reads a chain of LAYERS such layers
DATA_BYTES = 64 << 20
LAYERS = 5
LINE = b"ready"
TIMEOUT_S = 60.0
POLL_S = 0.005
AIM = "< 2, the same for all sizes"


@dataclass(frozen=True)
class Guest:
    """What is on the disk, and how it is booted.

    :param fill: puts it into the lowest layer, or the newest
    :param line: what it says on its console when it is up
    :param arguments: of QEMU
    :param device: options of the disk
    :param scattered: whether each layer also holds data anywhere on the disk
    """

    fill: Callable[[Path, ChainStore], None]
    line: bytes
    arguments: tuple[str, ...]
    device: str
    scattered: bool


@dataclass(frozen=True)
class Times:
    """Seconds from the request until the disks are served, the guest's first read, and its line."""

    served: float
    read: float
    line: float


def run() -> dict[str, Figure]:
    """The figures of instant restore."""
    figures: dict[str, Figure] = {}
    for name, size in SIZES.items():
        runs = restores(FIRMWARE, size)
        figures[f"first_read_s_{name}"] = Figure("s", [each.read for each in runs], AIM)
        figures[f"first_line_s_{name}"] = Figure("s", [each.line for each in runs])
        figures[f"served_s_{name}"] = Figure("s", [each.served for each in runs])
    return figures


def restores(guest: Guest, size: int) -> list[Times]:
    """A guest is restored and booted some times, each time from a disk of this size."""
    build = loopback.ROOT / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=build) as name:
        folder = Path(name)
        with loopback.receiver(folder) as receiver, catalog_of(receiver.store) as catalog:
            store = ChainStore(receiver.store, catalog, size=size)
            for seed in range(LAYERS):
                data = scattered(size, DATA_BYTES // CLUSTER, seed=seed) if guest.scattered else []
                store.add(data, seed=seed)
            guest.fill(folder, store)
            options = receiver.options | {"receiver_token": _token(folder)}
            point = store.points[-1]
            return [_restore(folder / str(number), guest, options, point) for number in range(ROUNDS)]


def _restore(folder: Path, guest: Guest, options: dict[str, Any], point: str) -> Times:
    folder.mkdir()
    common = {
        "vm": VM,
        "dest": str(folder),
        "state_dir": str(folder / "state"),
        "run_dir": str(folder / "run"),
    }
    begun = time.monotonic()
    served = loopback.module("instant_restore", point=point, **common, **options)
    served_s = time.monotonic() - begun
    try:
        with _booted(folder, guest, served["disks"][0]) as monitor:
            read_s = _until(lambda: _reads(monitor) > 0) - begun
            line_s = _until(lambda: guest.line in (folder / "console").read_bytes()) - begun
    finally:
        loopback.module("instant_restore", state="absent", force=True, **common, **options)
    return Times(served_s, read_s, line_s)


@contextmanager
def _booted(folder: Path, guest: Guest, disk: dict[str, Any]) -> Iterator[QEMUMonitorProtocol]:
    (folder / "console").touch()
    monitor = QEMUMonitorProtocol(str(folder / "qmp"), server=True)
    process = subprocess.Popen(
        ["qemu-system-x86_64", "-name", VM, "-accel", "tcg", "-machine", "q35", "-nodefaults",
         "-display", "none", "-boot", "menu=off", "-serial", f"file:{folder}/console",
         "-qmp", f"unix:{folder}/qmp", "-blockdev", disk["blockdev"],
         "-device", f"{disk['device']},{guest.device}", *guest.arguments],
    )  # fmt: skip
    try:
        monitor.accept()
        yield monitor
    finally:
        monitor.close()
        process.terminate()
        process.wait()


def _reads(monitor: QEMUMonitorProtocol) -> int:
    found: list[dict[str, Any]] = monitor.cmd("query-blockstats")  # type: ignore[assignment]
    return sum(each["stats"]["rd_operations"] for each in found if DISK in each.get("qdev", ""))


def _until(condition: Callable[[], bool]) -> float:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("the restored guest does not boot")
        time.sleep(POLL_S)
    return time.monotonic()


def _make_bootable(folder: Path, store: ChainStore) -> None:
    """Put a boot sector into the newest layer that says LINE on the serial port and halts."""
    program = bytes.fromhex("31c0 8ed8 be157c baf803 ac 84c0 7403 ee ebf8 f4 ebfd")
    sector = (program + LINE + b"\n\0").ljust(510, b"\0") + b"\x55\xaa"
    path = folder / "boot.bin"
    path.write_bytes(sector)
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", f"write -q -s {path} 0 512", str(store.layer(-1))],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def _token(folder: Path) -> str:
    made = subprocess.run(
        [sys.executable, "-m", "livebackup_receiver", "token", "create", "--name=restore", "--role=restore",
         "--json", "--config", str(folder / "config.toml")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    token: str = json.loads(made.stdout)["token"]
    return token


FIRMWARE = Guest(_make_bootable, LINE, ("-m", "64"), "bootindex=0", scattered=True)
"""The firmware reads the first sector, and that is all there is."""
