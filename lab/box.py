# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab box: namespaces of its own (process ids, mounts, network, IPC, host name, cgroup) around one lab.

Its network has only `lo` and the bridge `br0`, so no route leads out. A lab's box is one cgroup, and killing
that cgroup ends everything in it at once.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from lab import paths
from lab.errors import CommandFailed, LabError, NotRunning, TimedOut
from lab.process import become, require, resolve, run
from lab.topology import CONTROLLER_ADDRESS, NETWORK_PREFIX
from lab.waiting import until

INIT = paths.PACKAGE / "box-init.sh"
NAMESPACES = ("--pid", "--mount", "--net", "--ipc", "--uts", "--cgroup")


class Box:
    """The box of the lab whose state lies in `state`."""

    def __init__(self, state: Path) -> None:
        self.state = state
        identity = hashlib.sha256(str(state).encode()).hexdigest()[:8]
        tree = cgroup2_mount(Path("/proc/mounts").read_text())
        self.cgroup = tree / f"livebackup-lab-{state.name}-{identity}"

    @property
    def pid(self) -> int:
        """Process id of its process 1 as the machine sees it; NotRunning if there is none."""
        first = [pid for pid in processes_of(self.cgroup) if is_first_process(pid)]
        if not first:
            raise NotRunning(f"The lab {self.state.name}", "start it with `python -m lab up`")
        return first[0]

    @property
    def running(self) -> bool:
        try:
            return self.pid > 0
        except NotRunning:
            return False

    def start(self) -> None:
        """Start it unless it runs."""
        if self.running:
            return
        require("ip", "nft", "nsenter", "systemd-nspawn", "unshare")
        kill_cgroup(self.cgroup)  # whatever a broken start left
        self.state.mkdir(parents=True, exist_ok=True)
        ready = self.state / "box.ready"
        ready.unlink(missing_ok=True)
        address = f"{CONTROLLER_ADDRESS}/{NETWORK_PREFIX}"
        argv = ["unshare", "--fork", "--mount-proc", *NAMESPACES, "--kill-child", "--propagation", "private",
                "sh", str(INIT), address, str(ready)]  # fmt: skip
        log = self.state / "box.log"
        spawn(self.cgroup, argv, log)
        try:
            until(ready.exists, "the lab box was ready", timeout=20)
        except TimedOut as error:
            raise LabError(f"The lab box did not start: {log.read_text().strip() or error}.") from None

    def stop(self) -> None:
        """Kill everything in it. Nothing of it is left but files."""
        kill_cgroup(self.cgroup)

    def command(self, argv: Sequence[str], *, cwd: Path | None = None) -> list[str]:
        """`argv` wrapped so that it runs inside, in the same directory of the machine's own file system."""
        return ["nsenter", f"--target={self.pid}", *NAMESPACES, "--",
                "env", "-C", str(cwd or Path.cwd()), *argv]  # fmt: skip

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        input: str | None = None,
        timeout: float | None = 120,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` inside as the controller; `env` is added to this process's environment."""
        merged = {**os.environ, **env} if env else None
        done = run(self.command(argv, cwd=cwd), check=False, input=input, timeout=timeout, env=merged)
        if check and done.returncode != 0:
            raise CommandFailed(argv, done.returncode, done.stdout, done.stderr, " on the lab's controller")
        return done

    def path(self, path: Path) -> Path:
        """A path inside as this machine can open it, past mounts that only the box has."""
        return Path(f"/proc/{self.pid}/root{path}")

    def become(self, argv: Sequence[str]) -> NoReturn:
        """Replace this program by `argv` running inside."""
        become(self.command(argv))


def cgroup2_mount(mounts: str) -> Path:
    """Where /proc/mounts says the cgroup2 tree is, on unified and hybrid machines alike."""
    for line in mounts.splitlines():
        fields = line.split()
        if fields[2] == "cgroup2":
            return Path(fields[1])
    raise LabError("This machine has no cgroup2 tree; the lab needs a kernel and an init that mount one.")


def processes_of(cgroup: Path) -> list[int]:
    """Process ids directly in `cgroup`, as this process sees them; none if it does not exist."""
    try:
        return [int(line) for line in (cgroup / "cgroup.procs").read_text().split()]
    except OSError:  # gone, or going
        return []


def is_first_process(pid: int) -> bool:
    """Is it process 1 of its own process id namespace?"""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    ids = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
    return len(ids) > 1 and ids[-1] == "1"


def spawn(cgroup: Path, argv: Sequence[str], log: Path) -> None:
    """Start `argv` as a member of `cgroup` that outlives this process; its output goes to `log`."""
    cgroup.mkdir(parents=True, exist_ok=True)
    member = f"echo $$ > {shlex.quote(str(cgroup / 'cgroup.procs'))} && exec {shlex.join(resolve(argv))}"
    run(["sh", "-c", f"setsid sh -c {shlex.quote(member)} </dev/null >>{shlex.quote(str(log))} 2>&1 &"])


def kill_cgroup(cgroup: Path) -> None:
    """SIGKILL every process in `cgroup`, wait for their end, and remove it."""
    if not cgroup.exists():
        return
    (cgroup / "cgroup.kill").write_text("1")
    events = cgroup / "cgroup.events"
    until(lambda: "populated 0" in events.read_text(), f"the processes of {cgroup.name} ended")
    deadline = time.monotonic() + 5
    while cgroup.exists() and time.monotonic() < deadline:
        for directory in sorted((path for path in cgroup.rglob("*") if path.is_dir()), reverse=True):
            _remove(directory)
        _remove(cgroup)


def _remove(cgroup: Path) -> None:
    try:
        cgroup.rmdir()
    except OSError:  # a process in it has not quite gone
        time.sleep(0.01)
