# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks with real file systems in them, some of them hostile; made by mkfs and debugfs, without a mount."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Iterator
from pathlib import Path

from sample_store import SampleStore, Write, run

from livebackup_receiver.model import Point

MIB = 1 << 20
SCRIPT = b"<img src=x onerror=alert(1)>"
NEWLINE = b"two\nlines"
ODD = b"odd \xff\xfe \x1b[2J"
BIDI = "gpj.\u202eexe".encode()
MANY = 2500
SPARSE_BYTES = 1 << 40


def make_tree(root: Path) -> Path:
    """A directory with all that is hard to show: names, links, devices, modes, very many entries."""
    for name in ("etc", "many", "deep/er"):
        (root / name).mkdir(parents=True)
    (root / "etc" / "hosts").write_text("127.0.0.1 localhost\n")
    (root / "etc" / "random").write_bytes(random.Random(5).randbytes(3 * MIB + 17))
    (root / "deep" / "er" / "empty").touch()
    for odd in (SCRIPT, NEWLINE, ODD, BIDI, b"back\\slash"):
        (root / os.fsdecode(odd)).write_bytes(odd)
    (root / "absolute").symlink_to("/etc/hosts")
    (root / "upwards").symlink_to("../../../../../../etc/hosts")
    (root / "round").symlink_to("round")
    (root / "deep" / "link").symlink_to("/etc")
    os.mknod(root / "deep" / "disk", stat.S_IFBLK | 0o666, os.makedev(8, 0))
    os.mkfifo(root / "deep" / "pipe")
    (root / "deep" / "root-shell").write_text("#!/bin/sh\n")
    (root / "deep" / "root-shell").chmod(0o6755)
    os.link(root / "deep" / "root-shell", root / "deep" / "second-name")
    for number in range(MANY):
        (root / "many" / f"{number:05}").touch()
    return root


def ext4(image: Path, tree: Path, size: int = 32 * MIB) -> Path:
    """An ext4 with this content."""
    image.touch()
    os.truncate(image, size)
    run("mkfs.ext4", "-q", "-F", "-N", "8192", "-d", str(tree), str(image))
    return image


def edit(image: Path, *commands: str) -> None:
    """Change an ext4 in place with debugfs."""
    for command in commands:
        run("debugfs", "-w", "-R", command, str(image))


def xfs(image: Path, content: Path) -> Path:
    """An XFS with one directory, and one file in it."""
    proto = image.with_suffix(".proto")
    lines = ("/", "0 0", "d--755 0 0", "data d--750 3 4", f"file ---640 3 4 {content}", "$", "$", "")
    proto.write_text("\n".join(lines))
    image.touch()
    os.truncate(image, 320 * MIB)
    run("mkfs.xfs", "-q", "-p", str(proto), str(image))
    return image


def spoil(image: Path, offset: int, length: int, seed: int = 1) -> None:
    """Overwrite a part with garbage."""
    with image.open("r+b") as file:
        file.seek(offset)
        file.write(random.Random(seed).randbytes(length))


def add_disks(store: SampleStore, images: dict[str, Path], vm: str = "db") -> Point:
    """A point whose disks hold what is in these raw images."""
    sizes = {(vm, disk): image.stat().st_size for disk, image in images.items()}
    writes = {(vm, disk): list(_writes(image)) for disk, image in images.items()}
    return store.add(writes, sizes=sizes)


def _writes(image: Path) -> Iterator[Write]:
    """What it takes to write an image, its zeros left out."""
    piece = image.with_suffix(".pieces")
    piece.mkdir(exist_ok=True)
    with image.open("rb") as file:
        for number, part in enumerate(iter(lambda: file.read(MIB), b"")):
            path = piece / str(number)
            if any(part):
                path.write_bytes(part)
                yield Write(number * MIB, len(part), 0, f"write -q -s {path}")
            elif path.exists():
                path.unlink()
                yield Write(number * MIB, len(part), 0)
