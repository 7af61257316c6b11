# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The root tree every lab host boots from: Debian bookworm and all the roles need, so nothing is downloaded.

The tree is cached as `build/lab/rootfs-<hash>`, the hash being that of its recipe below.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from lab import paths
from lab.process import require, run

SUITE = "bookworm"
PACKAGES = (
    "bubblewrap", "ca-certificates", "curl", "dbus", "dnsmasq-base", "e2fsprogs", "iproute2", "iputils-ping",
    "kmod", "less", "libguestfs-xfs", "libguestfs0", "libnbd-bin", "linux-image-cloud-amd64", "nbdkit",
    "nbdkit-plugin-python",
    "nftables", "openssh-client", "openssh-server", "openssl", "ovmf", "procps", "python3", "python3-apt",
    "python3-libnbd", "python3-packaging", "python3-venv", "qemu-system-common", "qemu-system-x86",
    "qemu-utils", "rsync", "sudo", "systemd", "systemd-sysv", "util-linux", "xfsprogs",
)  # fmt: skip
OPTIONS = (
    "--variant=apt",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    # Mirrors that hold an old state of the archive have Release files past their date.
    '--aptopt=Acquire::Check-Valid-Until "false"',
    '--aptopt=APT::Install-Recommends "false"',
)
FILES: Mapping[str, str] = {
    "etc/ssh/sshd_config.d/lab.conf": "PermitRootLogin prohibit-password\nUseDNS no\nMaxStartups 100\n",
    "etc/sysusers.d/livebackup-lab.conf": "u qemu - 'QEMU of the lab' /var/lib/livebackup-lab\n",
    "etc/tmpfiles.d/livebackup-lab.conf": (
        "d /run/qemu 0755 qemu qemu -\n"
        "d /run/qemu-lab 0755 qemu qemu -\n"
        "d /var/log/livebackup-lab 0755 qemu qemu -\n"
        "d /var/lib/livebackup-lab 0755 qemu qemu -\n"
    ),
}
# They cost time at boot or wake up during tests, and do nothing useful in a lab host.
MASKED_UNITS = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "console-getty.service", "dpkg-db-backup.timer",
    "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer", "systemd-logind.service",
)  # fmt: skip


def recipe_hash() -> str:
    """Hash of everything that decides what is in the tree."""
    recipe = json.dumps([SUITE, PACKAGES, OPTIONS, dict(FILES), MASKED_UNITS])
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def directory() -> Path:
    return paths.LAB_BUILD / f"rootfs-{recipe_hash()}"


def build() -> Path:
    """The root tree, made if this recipe has not been built yet (about 30 s)."""
    target = directory()
    with paths.locked(paths.LAB_BUILD / "build.lock"):
        if not target.exists():
            partial = target.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            bootstrap(partial, PACKAGES, OPTIONS)
            _configure(partial)
            partial.rename(target)
    return target


def bootstrap(target: Path, packages: tuple[str, ...], options: tuple[str, ...]) -> None:
    """Unpack `packages` and what they depend on into `target` with mmdebstrap."""
    require("mmdebstrap")
    include = f"--include={','.join(packages)}"
    run(["mmdebstrap", *options, include, SUITE, str(target), *mirrors()], timeout=900)


def mirrors() -> list[str]:
    """Source lines for SUITE from this machine's own apt; none lets mmdebstrap use its default mirror."""
    query = ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    return select_mirrors(run(query, check=False).stdout)


def select_mirrors(targets: str) -> list[str]:
    """One-line sources for SUITE and its updates, out of lines `SITE RELEASE COMPONENT`."""
    releases = {SUITE, f"{SUITE}-updates", f"{SUITE}-security"}
    fields = [line.split() for line in targets.splitlines() if len(line.split()) == 3]
    lines = {f"deb {site} {release} {part}": None for site, release, part in fields if release in releases}
    return list(lines) if any(line.split()[2] == SUITE for line in lines) else []


def _configure(tree: Path) -> None:
    for name, content in FILES.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    for unit in MASKED_UNITS:
        link = tree / "etc/systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    for key in (tree / "etc/ssh").glob("ssh_host_*"):
        key.unlink()  # every host makes its own
    run(["chroot", str(tree), "systemd-sysusers"])
