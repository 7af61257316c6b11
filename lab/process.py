# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one door to other programs: argument lists, captured output, a clear error when one is missing."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from lab.errors import CommandFailed, TimedOut, ToolMissing

log = logging.getLogger(__name__)

PACKAGE_OF_TOOL = {
    "cpio": "cpio",
    "debugfs": "e2fsprogs",
    "depmod": "kmod",
    "dumpe2fs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "gcc": "gcc",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "modprobe": "kmod",
    "nft": "nftables",
    "nsenter": "util-linux",
    "qemu-img": "qemu-utils",
    "ssh-keygen": "openssh-client",
    "systemd-nspawn": "systemd-container",
    "tc": "iproute2",
    "unshare": "util-linux",
}
SEARCH_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def require(*tools: str) -> None:
    """Raise ToolMissing for the first of `tools` that is not installed."""
    for tool in tools:
        if shutil.which(tool, path=SEARCH_PATH) is None:
            raise ToolMissing(tool, PACKAGE_OF_TOOL.get(tool, tool))


def resolve(argv: Sequence[str]) -> list[str]:
    """`argv` with its program as a full path; ToolMissing if there is none."""
    require(argv[0])
    return [shutil.which(argv[0], path=SEARCH_PATH) or argv[0], *argv[1:]]


def run(
    argv: Sequence[str],
    *,
    check: bool = True,
    input: str | None = None,  # the name subprocess.run gives it
    timeout: float | None = 120,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `argv` to its end; CommandFailed if it fails and `check` is on, TimedOut after `timeout` s."""
    log.debug("run %s", shlex.join(argv))
    try:
        done = subprocess.run(
            resolve(argv),
            input=input or "",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=env,
            cwd=cwd,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TimedOut(f"`{shlex.join(argv)}` ended", error.timeout) from None
    if check and done.returncode != 0:
        raise CommandFailed(argv, done.returncode, done.stdout, done.stderr)
    return done


def become(argv: Sequence[str]) -> NoReturn:
    """Replace this program by `argv`, which then has the terminal."""
    resolved = resolve(argv)
    os.execv(resolved[0], resolved)
