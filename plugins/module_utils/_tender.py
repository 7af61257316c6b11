# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The process a VM reads a restore point through: its parameters, start and end.

For internal use of livebackup.qemu only. It outlives the module: as an instance of the role hypervisor's
unit where systemd runs, which also starts it after a reboot, before the VMs; else as a daemon. What it needs
to know is in ``tender.json``, which is there as long as the VM reads from the receiver.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import (
    _images,
    _process,
    _tender_link,
    _tender_plugin,
    _tender_vm,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    DependencyError,
    OptionError,
    ProgramFailed,
)

STATE_DIR = "/var/lib/livebackup/instant"
RUN_DIR = "/run/livebackup/instant"
UNIT = "livebackup-instant@"
UNIT_FILE = f"/etc/systemd/system/{UNIT}.service"
STALL_SECONDS = 5.0
LIMIT_SECONDS = 10.0
START_SECONDS = 15.0
END_SECONDS = 5.0
_NBDKIT = "nbdkit"
_GREETING = b"NBDMAGIC"
_GREETING_BYTES = 18
# the client's flags (fixed newstyle) and NBD_OPT_ABORT
_FAREWELL = struct.pack(">I8sII", 1, b"IHAVEOPT", 2, 0)
_SOURCES = (_tender_link, _tender_vm, _tender_plugin)
# a unix socket's path ends in struct sockaddr_un
_LONGEST_SOCKET = 107
# nbdkit's Python looks for its library by this, and must not find that of a virtual environment
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Tender:
    """That of one VM; ``state`` and ``run`` are directories of its own."""

    vm: str
    state: str
    run: str

    @property
    def socket(self) -> str:
        """Where it serves; an export for each disk, by the disk's name."""
        return os.path.join(self.run, "nbd.sock")

    @property
    def parameters(self) -> str:
        """The file with its parameters, and the lease's secret."""
        return os.path.join(self.state, "tender.json")

    @property
    def pid_file(self) -> str:
        """Of nbdkit."""
        return os.path.join(self.run, "nbdkit.pid")

    @property
    def log(self) -> str:
        """What it says."""
        return os.path.join(self.state, "tender.log")

    @property
    def library(self) -> str:
        """Where its Python finds the sources."""
        return os.path.join(self.state, "lib")

    def uri(self, disk: str) -> str:
        """The backing file of a disk's overlay."""
        return f"nbd+unix:///{disk}?socket={self.socket}"

    def arguments(self) -> list[str]:
        """Of nbdkit; the role's unit has the same."""
        package = _tender_plugin.__name__.replace(".", os.sep)
        return [
            *("--readonly", "--threads", "32"),
            *("--unix", self.socket, "--pidfile", self.pid_file),
            *("python", f"script={self.library}/{package}.py"),
            *(f"config={self.parameters}", f"log={self.log}"),
        ]


def tender_of(params: dict[str, Any]) -> Tender:
    """From a module's parameters. Raises OptionError."""
    name = params["name"] or params["vm"]
    tender = Tender(name, os.path.join(params["state_dir"], name), os.path.join(params["run_dir"], name))
    if len(tender.socket) > _LONGEST_SOCKET:
        raise OptionError(
            f"The socket {tender.socket} would have too long a path; give a shorter run_dir.",
            run_dir=params["run_dir"],
        )
    return tender


def read(tender: Tender) -> dict[str, Any] | None:
    """Its parameters; None if the VM is not being restored."""
    try:
        with open(tender.parameters, encoding="utf-8") as file:
            found: dict[str, Any] = json.load(file)
            return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise OptionError(
            f"The file {tender.parameters} cannot be read: {error}; run this task as the user who made it.",
            path=tender.parameters,
        ) from error


def write(tender: Tender, facts: dict[str, Any]) -> None:
    """Keep its parameters durably. Raises OptionError."""
    partial = f"{tender.parameters}.partial"
    try:
        os.makedirs(tender.state, mode=0o700, exist_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(facts, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        os.rename(partial, tender.parameters)
        _images.sync(tender.state)
    except OSError as error:
        raise OptionError(
            f"The directory {tender.state} cannot be written: {error.strerror}; run this task as root, or "
            "give another state_dir.",
            state_dir=tender.state,
        ) from error


def forget(tender: Tender) -> None:
    """Remove what is left of it, the parameters first."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(tender.parameters)
    for directory in (tender.state, tender.run):
        shutil.rmtree(directory, ignore_errors=True)


def serves(tender: Tender) -> bool:
    """Whether somebody serves on its socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(END_SECONDS)
        try:
            client.connect(tender.socket)
            greeting = client.recv(_GREETING_BYTES)
            client.sendall(_FAREWELL)
            return greeting.startswith(_GREETING)
        except OSError:
            return False


async def start(tender: Tender) -> bool:
    """Have it serve; return whether it did not. Raises DependencyError, ProgramFailed, OptionError."""
    if serves(tender):
        return False
    if shutil.which(_NBDKIT) is None:
        raise DependencyError(
            "nbdkit is not installed on this host; apply the role livebackup.qemu.hypervisor, which "
            "installs it.",
            program="nbdkit",
        )
    _install(tender)
    if looked_after(tender):
        await _process.run(
            ["systemctl", "enable", "--now", f"{UNIT}{tender.vm}.service"], timeout=START_SECONDS
        )
        await _wait(tender)
    else:
        await _daemon(tender)
    return True


def looked_after(tender: Tender) -> bool:
    """Whether systemd runs it: its unit knows the usual directories only."""
    usual = (os.path.join(STATE_DIR, tender.vm), os.path.join(RUN_DIR, tender.vm))
    return (
        (tender.state, tender.run) == usual
        and os.path.isdir("/run/systemd/system")
        and os.path.exists(UNIT_FILE)
    )


async def stop(tender: Tender) -> None:
    """End it; repeating it is harmless."""
    if looked_after(tender):
        unit = f"{UNIT}{tender.vm}.service"
        await _process.run(["systemctl", "disable", "--now", unit], timeout=START_SECONDS)
    pid = _pid(tender)
    deadline = time.monotonic() + END_SECONDS
    sent = signal.SIGTERM
    while pid is not None and _pid(tender) == pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sent)
        await asyncio.sleep(0.05)
        sent = signal.SIGKILL if time.monotonic() > deadline else signal.SIGTERM


def _pid(tender: Tender) -> int | None:
    """The process that serves there, if it is what we have started."""
    try:
        with open(tender.pid_file, encoding="ascii") as file:
            pid = int(file.read())
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return pid if tender.socket.encode() in file.read().split(b"\0") else None
    except (OSError, ValueError):
        return None


def _install(tender: Tender) -> None:
    """Put the sources where nbdkit's Python finds them: a module of Ansible's runs from an archive."""
    for module in _SOURCES:
        spec = importlib.util.find_spec(module.__name__)
        source = spec.loader.get_source(module.__name__)  # type: ignore[union-attr]
        path = os.path.join(tender.library, module.__name__.replace(".", os.sep) + ".py")
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(source)
    os.makedirs(tender.run, mode=0o700, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(tender.socket)


async def _daemon(tender: Tender) -> None:
    """Return when it serves; it is then no child of ours. Raises DependencyError, ProgramFailed."""
    # in the foreground, nbdkit would end with us
    environment = {"PATH": _PATH, "PYTHONPATH": tender.library}
    program = shutil.which(_NBDKIT) or _NBDKIT
    try:
        await _process.run([program, *tender.arguments()], env=environment, timeout=START_SECONDS)
    except ProgramFailed as error:
        raise _failure(tender, error.facts["reason"]) from error


async def _wait(tender: Tender) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not serves(tender):
        if time.monotonic() > deadline:
            raise _failure(tender, f"look into {tender.log}")
        await asyncio.sleep(0.02)


def _failure(tender: Tender, reason: str) -> DependencyError | ProgramFailed:
    if "No module named 'nbd'" in reason:
        return DependencyError(
            "nbdkit's Python cannot import nbd on this host; apply the role livebackup.qemu.hypervisor, "
            "which installs libnbd for Python.",
            library="nbd",
        )
    last = reason.strip().splitlines()[-1:] or ["it says nothing"]
    return ProgramFailed(
        f"VM {tender.vm}: nbdkit does not serve its disks: {last[0].strip()}; apply the role "
        "livebackup.qemu.hypervisor.",
        vm=tender.vm,
        reason=reason,
    )
