# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instant restore of a Linux system: from the request to its login prompt, for disks of any size.

Its root is an ext4 file system over the whole of the restored disk. The kernel of the lab's guests is given
to QEMU, mounts that, and leaves the rest to what lies there.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from bench.chains import ChainStore
from bench.instant import SIZES, Guest, restores
from bench.report import Figure
from lab import guest as lab_guest

PROMPT = b"login: "
WORDS = "console=ttyS0 quiet loglevel=3 panic=-1 tsc=reliable lab.mode=root"
INITTAB = """::sysinit:/bin/busybox mount -t devtmpfs dev /dev
::sysinit:/bin/busybox mount -t proc proc /proc
ttyS0::respawn:/bin/busybox getty -L 115200 ttyS0 vt100
"""


def run() -> dict[str, Figure]:
    """The figures; the guest's processor is simulated, which is nearly all of the time."""
    built = lab_guest.build()
    kernel = ("-kernel", str(built / "vmlinuz"), "-initrd", str(built / "initramfs"), "-append", WORDS)
    system = Guest(_fill, PROMPT, ("-cpu", "max", "-m", "128", *kernel), "serial=A", scattered=False)
    runs = {name: restores(system, size) for name, size in SIZES.items()}
    return {f"login_s_{name}": Figure("s", [each.line for each in found]) for name, found in runs.items()}


def _fill(folder: Path, store: ChainStore) -> None:
    """Put a system into the lowest layer."""
    root, image = folder / "root", folder / "root.raw"
    for name in ("bin", "sbin", "dev", "etc", "proc"):
        (root / name).mkdir(parents=True)
    shutil.copy(lab_guest.directory() / "root/bin/busybox", root / "bin/busybox")
    (root / "sbin/init").symlink_to("/bin/busybox")
    (root / "etc/inittab").write_text(INITTAB)
    with image.open("wb") as file:
        file.truncate(store.size)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-d", str(root), str(image)], check=True)
    subprocess.run(
        ["qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", image, store.layer(0)], check=True
    )
    image.unlink()
