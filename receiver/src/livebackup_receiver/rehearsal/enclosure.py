# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What shuts a rehearsal in: namespaces of its own, made by bubblewrap; pure but for where Python lies.

Inside there is a network with nothing but the loopback, no process but its own, and of the files only
programs, the kernels, and one directory. When the first process ends, all end: the kernel sees to that,
whoever kills what.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import livebackup_receiver
from livebackup_receiver import subprocesses
from livebackup_receiver.rehearsal.script import INSIDE

PROGRAM = "bwrap"
DEVICES = ("/dev/kvm", "/dev/net/tun")
# For the bridge and tap devices, and for DHCP; all of it in the enclosure's own network only.
CAPABILITIES = ("CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_NET_BIND_SERVICE")
SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
PACKAGES = Path(livebackup_receiver.__file__).parents[1]
"""Where the receiver's own package is imported from, wherever that is."""
PERFORM = ("-B", "-s", "-m", "livebackup_receiver.rehearsal.perform")


def enclosed(argv: Sequence[str], directory: Path, files: Path | None = None) -> list[str]:
    """The command that runs another one in an enclosure.

    :param directory: what is seen as ``/rehearsal``, and can be written
    :param files: the directory of kernels, which is seen under its own name
    """
    return [PROGRAM, *_namespaces(), *_file_system(directory, files), *_environment(), "--", *argv]


def perform_command() -> list[str]:
    """What runs in the enclosure."""
    return [sys.executable, *PERFORM]


def _namespaces() -> Iterator[str]:
    yield from ("--unshare-user", "--uid", "0", "--gid", "0")
    yield from ("--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts")
    yield from ("--die-with-parent", "--new-session", "--cap-drop", "ALL")
    for capability in CAPABILITIES:
        yield from ("--cap-add", capability)


def _file_system(directory: Path, files: Path | None) -> Iterator[str]:
    yield from ("--ro-bind", "/usr", "/usr")
    for path in map(Path, SYSTEM):
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        elif path.is_dir():
            yield from ("--ro-bind", str(path), str(path))
    yield from ("--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache")
    # No /proc: through it, processes of the same user outside could be reached, and with them their files.
    yield from ("--dev", "/dev", "--tmpfs", "/tmp")
    for path in _python():
        yield from ("--ro-bind", str(path), str(path))
    for device in DEVICES:
        yield from ("--dev-bind-try", device, device)
    if files is not None:
        yield from ("--ro-bind-try", str(files), str(files))
    yield from ("--bind", str(directory), str(INSIDE), "--chdir", str(INSIDE))


def _python() -> list[Path]:
    """Where the interpreter and the packages lie, if that is not below /usr."""
    found = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).parents[1], PACKAGES}
    found |= {path.resolve() for path in found}
    return sorted(path for path in found if not path.is_relative_to("/usr"))


def _environment() -> Iterator[str]:
    variables = {"PATH": subprocesses.ENVIRONMENT["PATH"], "LC_ALL": "C", "PYTHONPATH": str(PACKAGES)}
    yield "--clearenv"
    for name, value in variables.items():
        yield from ("--setenv", name, value)
