# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM whose Linux guest writes to its disk all the time and tells how long each write took.

Kernel and busybox are those of the lab's guest; the initramfs is the lab's with another /init laid over it.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.loopback import ROOT
from lab import guest as lab_guest

BOOT_TIMEOUT_S = 120
INIT = """#!/bin/sh
export PATH=/bin:/sbin
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/lib/modules/$module"; done < /modules.list
exec /bin/writer
"""


@dataclass(frozen=True)
class WritingGuest:
    """A running VM with one disk, `name` as QEMU and the receiver know it."""

    name: str
    product_socket: Path
    console: Path

    def position(self) -> int:
        """How much the guest has told so far, for `since`."""
        return self.console.stat().st_size

    def since(self, position: int) -> list[int]:
        """Microseconds of each write told since, -1 for one that failed; what is half told is left out."""
        told = self.console.read_bytes()[position:].decode(errors="replace")
        lines = [line.split() for line in told.split("\n")[1:-1]]
        return [int(word) for line in lines if line[:1] == ["W"] for word in line[1:]]


@contextmanager
def writing_guest(folder: Path, disk: Path) -> Iterator[WritingGuest]:
    """Boot the guest on `disk`, and wait until it writes."""
    built = lab_guest.build()
    guest = WritingGuest("writer", folder / "writer.qmp", folder / "writer.console")
    process = subprocess.Popen(
        ["qemu-system-x86_64", "-name", guest.name, "-accel", "tcg,tb-size=32", "-cpu", "max",
         "-machine", "q35", "-m", "256", "-nodefaults", "-display", "none", "-no-reboot",
         "-qmp", f"unix:{guest.product_socket},server=on,wait=off",
         "-kernel", str(built / "vmlinuz"), "-initrd", str(_initramfs(folder, built / "initramfs")),
         "-append", "console=ttyS0 quiet loglevel=3 panic=-1 tsc=reliable",
         "-serial", f"file:{guest.console}",
         "-blockdev", f"driver=file,node-name=file-a,filename={disk},cache.direct=off",
         "-blockdev", "driver=qcow2,node-name=disk-a,file=file-a",
         "-device", "virtio-blk-pci,id=vd-a,drive=disk-a"],
    )  # fmt: skip
    try:
        _wait_until_it_writes(guest, process)
        yield guest
    finally:
        process.terminate()
        process.wait()


def _initramfs(folder: Path, lab: Path) -> Path:
    """The lab's with our files after it: the kernel unpacks one archive over the other."""
    root, initramfs = folder / "initramfs.d", folder / "initramfs"
    (root / "bin").mkdir(parents=True)
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    source = ROOT / "bench/writer.c"
    compile_ = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s"]
    subprocess.run([*compile_, "-o", str(root / "bin/writer"), str(source)], check=True)
    create = ["cpio", "--create", "--format=newc", "--quiet", "--owner=0:0", "-D", str(root)]
    ours = subprocess.run(create, input=b"init\nbin/writer\n", check=True, capture_output=True).stdout
    initramfs.write_bytes(lab.read_bytes() + ours)
    return initramfs


def _wait_until_it_writes(guest: WritingGuest, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + BOOT_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        if guest.console.exists() and len(guest.since(0)) > 0:
            return
        time.sleep(0.1)
    told = guest.console.read_text(errors="replace") if guest.console.exists() else ""
    raise RuntimeError(f"the guest does not write: {told[-500:]}")
