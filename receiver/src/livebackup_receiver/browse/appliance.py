# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The appliance: kernel and programs of this machine, put by supermin into a directory of the receiver's own.

supermin makes it anew whenever a package it is made of has changed.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from livebackup_receiver import subprocesses
from livebackup_receiver.browse.libguestfs import is_installed
from livebackup_receiver.errors import BrowseUnavailable, CommandFailed
from livebackup_receiver.store import durable

PACKAGES = "the packages libguestfs0, libguestfs-xfs and linux-image-amd64"
ROLE = "or set livebackup_receiver_browse: true for the role receiver"
SUPERMIN_DIRECTORIES = "/usr/lib/*/guestfs/supermin.d"
BUILD_TIMEOUT_S = 300.0
# libguestfs takes a directory with this file in it as a finished appliance (guestfs(3)).
FIXED = "README.fixed"


def require_means() -> Path:
    """The description from which an appliance is made.

    :raise BrowseUnavailable: something is not installed
    """
    found = sorted(Path("/").glob(SUPERMIN_DIRECTORIES.lstrip("/")))
    if not found or not is_installed() or shutil.which("supermin", path=_path()) is None:
        raise BrowseUnavailable("libguestfs is not installed", f"install {PACKAGES}, {ROLE}")
    if not any(_kernels()):
        raise BrowseUnavailable(
            "there is no kernel for a throw-away guest in /boot that this user may read",
            f"install {PACKAGES}, {ROLE}",
        )
    return found[0]


async def make_appliance(cache: Path) -> Path:
    """Make the appliance, if it is not there or not up to date; the directory it lies in.

    :raise BrowseUnavailable: it cannot be made
    """
    description = require_means()
    # One for each user, because nobody is to run what another one could have written.
    home = cache / f"appliance-{os.getuid()}"
    try:
        durable.make_directory(home)
        found = home.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise BrowseUnavailable(
                f"{home} belongs to another user", "remove it, or name another browse_cache"
            )
        home.chmod(0o700)
    except OSError as error:
        problem = f"{home} cannot be made ({error.strerror})"
        raise BrowseUnavailable(
            problem, "name a directory that this user may write in browse_cache"
        ) from None
    target = home / "appliance"
    argv = ["supermin", "--build", "--if-newer", "--lock", str(home / "lock"), "--copy-kernel", "-f", "ext2"]
    argv += ["--host-cpu", os.uname().machine, str(description), "-o", str(target)]
    try:
        await subprocesses.run(argv, timeout_s=BUILD_TIMEOUT_S)
        (target / FIXED).touch()
        # supermin keeps the kernel's own date, and would take it for out of date each time.
        (target / "kernel").touch()
    except (CommandFailed, OSError) as error:
        raise BrowseUnavailable(f"the appliance cannot be made: {error}", f"see to {home}") from None
    return target


def kvm_is_there() -> bool:
    """Whether the appliance can use the processor itself, and need not have it emulated."""
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and can_virtualize(_processor())


def can_virtualize(processor: str) -> bool:
    """Whether a processor can, by ``/proc/cpuinfo``; what other architectures say there tells nothing."""
    flags = {word for line in processor.splitlines() if line.startswith("flags") for word in line.split()}
    return not flags or bool(flags & {"vmx", "svm"})


def _processor() -> str:
    return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")


def _kernels() -> Iterable[Path]:
    # On Ubuntu only root may read them.
    readable = (each for each in Path("/boot").glob("vmlinuz-*") if os.access(each, os.R_OK))
    modules = (Path("/lib/modules") / each.name.partition("-")[2] for each in readable)
    return (each for each in modules if each.is_dir())


def _path() -> str:
    return subprocesses.ENVIRONMENT["PATH"]
