# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest of the lab's virtual machines: a Debian kernel and an initramfs with busybox, agent and workload.

Everything comes from Debian packages that are unpacked below `build/`, never installed into the machine.
The result is `build/lab/guest/{vmlinuz,initramfs}`; `recipe` beside them says what they are made of.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from lab import paths, rootfs
from lab.process import require, run

PACKAGES = ("busybox-static", "linux-image-cloud-amd64", "qemu-guest-agent")
OPTIONS = (
    "--variant=extract",
    "--dpkgopt=path-exclude=/usr/share/*",
    '--aptopt=Acquire::Check-Valid-Until "false"',
    '--aptopt=APT::Install-Recommends "false"',
)
MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "virtio_net", "virtio_rng", "ext4")
DIRECTORIES = ("a", "b", "bin", "dev", "etc", "lib/modules", "proc", "run", "sbin", "sys", "tmp", "var")
WORKLOAD = paths.PACKAGE / "workload"
INIT = paths.PACKAGE / "guest-init.sh"


def directory() -> Path:
    return paths.LAB_BUILD / "guest"


def recipe_hash() -> str:
    """Hash of everything that decides what is in the guest."""
    digest = hashlib.sha256(repr([rootfs.SUITE, PACKAGES, OPTIONS, MODULES]).encode())
    for source in [INIT, *sorted(WORKLOAD.iterdir())]:
        digest.update(source.read_bytes())
    return digest.hexdigest()


def build() -> Path:
    """The directory with `vmlinuz` and `initramfs`, made anew if the recipe has changed."""
    target = directory()
    stamp = target / "recipe"
    with paths.locked(paths.LAB_BUILD / "build.lock"):
        if not stamp.exists() or stamp.read_text() != recipe_hash():
            target.mkdir(parents=True, exist_ok=True)
            _build(target, _unpacked())
            stamp.write_text(recipe_hash())
    return target


def _unpacked() -> Path:
    """The tree with the guest's packages, cached by its own recipe since it is slow to make."""
    key = hashlib.sha256(repr([rootfs.SUITE, PACKAGES, OPTIONS]).encode()).hexdigest()[:12]
    tree = paths.LAB_BUILD / f"guest-packages-{key}"
    if not tree.exists():
        partial = tree.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        rootfs.bootstrap(partial, PACKAGES, OPTIONS)
        partial.rename(tree)
    return tree


def _build(target: Path, packages: Path) -> None:
    require("cpio", "depmod", "gcc", "modprobe")
    root = target / "root"
    shutil.rmtree(root, ignore_errors=True)
    for name in DIRECTORIES:
        (root / name).mkdir(parents=True)
    (root / "init").write_text(f"#!/bin/sh\n{INIT.read_text()}")
    (root / "init").chmod(0o755)
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (root / "var/run").symlink_to("/run")
    _add_busybox(root, packages)
    _add_agent(root, packages)
    _add_modules(root, packages)
    run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s", "-o", str(root / "bin/workload"),
         *map(str, sorted(WORKLOAD.glob("*.c")))])  # fmt: skip
    _pack(root, target / "initramfs")
    shutil.copyfile(next(packages.glob("boot/vmlinuz-*")), target / "vmlinuz")


def _add_busybox(root: Path, packages: Path) -> None:
    shutil.copy2(packages / "bin/busybox", root / "bin/busybox")
    for applet in run([str(root / "bin/busybox"), "--list"]).stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")


def _add_agent(root: Path, packages: Path) -> None:
    """The agent and the libraries it is linked with, as the packages' own dynamic loader names them."""
    agent = "/usr/sbin/qemu-ga"
    listing = run(["chroot", str(packages), "/lib64/ld-linux-x86-64.so.2", "--list", agent]).stdout
    for path in [agent, *parse_libraries(listing)]:
        copy = root / path.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(packages / path.lstrip("/"), copy)


def parse_libraries(listing: str) -> list[str]:
    """Paths out of what the dynamic loader prints with `--list`."""
    words = [word for line in listing.splitlines() for word in line.split()]
    return list(dict.fromkeys(word for word in words if word.startswith("/")))


def _add_modules(root: Path, packages: Path) -> None:
    release = next(packages.glob("lib/modules/*")).name
    run(["depmod", "-b", str(packages), release])
    names: dict[str, None] = {}
    for module in MODULES:
        shown = run(["modprobe", "-d", str(packages), "-S", release, "--show-depends", module]).stdout
        for path in (line.split()[1] for line in shown.splitlines() if line.startswith("insmod ")):
            shutil.copy2(path, root / "lib/modules")
            names[Path(path).name] = None
    (root / "modules.list").write_text("".join(f"{name}\n" for name in names))


def _pack(root: Path, archive: Path) -> None:
    """Not compressed: unpacking is what an emulated CPU is slow at."""
    names = "\0".join(sorted(str(path.relative_to(root)) for path in root.rglob("*")))
    create = ["cpio", "--create", "--null", "--format=newc", "--quiet", "--owner=0:0"]
    run([*create, "-D", str(root), "-O", str(archive)], input=names)
