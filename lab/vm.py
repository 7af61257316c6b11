# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual machine of the lab: QEMU as a systemd unit `vm-<name>` of its host, which ends with the host."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from qemu.qmp import ConnectError, ExecuteError, QMPClient

from lab import qemu
from lab.agent import Agent
from lab.errors import CommandRefused, LabError, NotRunning
from lab.host import Host
from lab.topology import DiskSpec, VmSpec
from lab.waiting import until

INODES = "1024"


@dataclass(frozen=True)
class Newest:
    """The newest record on each of a machine's two disks."""

    a: int
    b: int


class Vm:
    """One machine on one host. Its state is what systemd and QEMU say: any process may make this object."""

    def __init__(self, host: Host, spec: VmSpec) -> None:
        self.host = host
        self.spec = spec
        self.name = spec.name
        self.unit = f"vm-{spec.name}.service"

    @property
    def running(self) -> bool:
        if not self.host.running:
            return False
        return self.host.run(["systemctl", "is-active", "--quiet", self.unit], check=False).returncode == 0

    @property
    def pid(self) -> int:
        """QEMU's process id as the host numbers it; NotRunning if there is none."""
        return self.host.main_pid(self.unit)

    def start(self) -> None:
        """Start QEMU unless it runs, with new disk images where there are none; `wait` for the guest."""
        if self.running:
            return
        for disk in self.spec.disks:
            self._provide(disk)
        unit = ["systemd-run", "--quiet", "--collect", f"--unit={self.unit}", "--service-type=exec"]
        properties = [f"--property=User={self.spec.user}", "--property=TimeoutStopSec=10"]
        self.host.run([*unit, *properties, "--", *qemu.command(self.spec, self.host.spec)])

    def wait(self, timeout: float = 180) -> None:
        """Until the guest's agent answers, or QEMU's monitor if there is no guest; LabError if QEMU ends."""
        until(self._answers, f"the virtual machine {self.name} was up", timeout=timeout, interval=0.1)

    def stop(self) -> None:
        """End QEMU in order (its images are closed), without asking the guest."""
        self.host.run(["systemctl", "stop", self.unit], check=False)

    def kill(self) -> None:
        """SIGKILL QEMU."""
        self.host.run(["systemctl", "kill", "--signal=KILL", self.unit])
        until(lambda: not self.running, f"QEMU of {self.name} ended")

    @contextmanager
    def up(self) -> Iterator[Vm]:
        """Started and up within it, stopped after it."""
        self.start()
        try:
            self.wait()
            yield self
        finally:
            if self.host.running:
                self.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within it, the machine stands still (QMP stop), with its images flushed."""
        self.qmp("stop")
        try:
            yield
        finally:
            self.qmp("cont")

    @property
    def monitor(self) -> Path:
        """The tests' own monitor, a socket as this machine can open it. It serves one client at a time."""
        return self.host.path(qemu.lab_monitor(self.name))

    def qmp(self, command: str, **arguments: Any) -> Any:
        """What the QMP `command` returns, over the tests' own monitor; CommandRefused if it fails."""
        return asyncio.run(asyncio.wait_for(self._execute(command, arguments), timeout=60))

    def write(self, letter: str, offset: int, length: int, pattern: int) -> None:
        """Write `length` bytes of value `pattern` to a disk, as a guest would: for machines without one."""
        device = f"/machine/peripheral/vd-{letter}/virtio-backend"
        line = f'qemu-io -d {device} "write -P {pattern} {offset} {length}"'
        if said := self.qmp("human-monitor-command", **{"command-line": line}):
            raise CommandRefused(f"QEMU of {self.name}", line, said.strip())

    def agent(self) -> Agent:
        """A connection to the tests' own agent in the guest, which leaves the product's free."""
        return Agent(self.name, self.host.path(qemu.lab_agent(self.name)))

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Within it, the guest's file systems are frozen by the product's agent; the other still answers."""
        path = self.host.path(qemu.agent(self.name))
        with Agent(self.name, path) as agent:
            agent.execute("guest-fsfreeze-freeze")
        try:
            yield
        finally:
            with Agent(self.name, path) as agent:
                agent.execute("guest-fsfreeze-thaw")

    def run(self, argv: Sequence[str]) -> str:
        """The standard output of `argv` run in the guest."""
        with self.agent() as agent:
            return agent.run(argv)

    def newest(self) -> Newest:
        """The newest record on each disk, as the guest reads it now."""
        found = json.loads(self.run(["/run/report"]))
        return Newest(found["a"], found["b"])

    def wait_for_record(self, number: int, timeout: float = 60) -> Newest:
        """Until both disks hold record `number`; TimedOut if `timeout` seconds pass without a new record."""
        found = self.newest()
        while found.b < number:
            awaited = f"{self.name} held a record after {found.b}"
            found = until(partial(self._newer_than, found), awaited, timeout=timeout, interval=0.1)
        return found

    def wait_for_line(self, words: str, timeout: float = 60) -> str:
        """The first line on the console that has `words` in it."""
        return until(lambda: self._line(words), f"{self.name} wrote {words!r}", timeout=timeout, interval=0.1)

    def disk_path(self, letter: str) -> Path:
        """The image of a disk, as this machine can open it."""
        return self.host.path(next(disk.path for disk in self.spec.disks if disk.letter == letter))

    def console(self) -> str:
        """What the guest wrote to its console so far."""
        return self.host.path(qemu.console(self.name)).read_text(errors="replace")

    async def _execute(self, command: str, arguments: dict[str, Any]) -> Any:
        client = QMPClient("lab")
        try:
            await client.connect(str(self.monitor))
            return await client.execute(command, arguments)
        except ConnectError as error:
            raise NotRunning(f"The monitor of {self.name}", f"is the machine up? ({error})") from None
        except ExecuteError as error:
            raise CommandRefused(f"QEMU of {self.name}", command, str(error)) from None
        finally:
            await client.disconnect()

    def _answers(self) -> bool:
        try:
            if self.spec.guest:
                self.run(["/bin/true"])
            else:
                self.qmp("query-status")
        except NotRunning:
            if not self.running:
                raise LabError(f"QEMU of {self.name} has ended: {self._last_words()}.") from None
            return False
        return True

    def _newer_than(self, known: Newest) -> Newest | None:
        found = self.newest()
        return found if found.b > known.b else None

    def _line(self, words: str) -> str | None:
        return next((line for line in self.console().splitlines() if words in line), None)

    def _last_words(self) -> str:
        journal = ["journalctl", "--unit", self.unit, "--lines=3", "--output=cat", "--no-pager"]
        return " / ".join(self.host.run(journal, check=False).stdout.split("\n")).strip(" /")

    def _provide(self, disk: DiskSpec) -> None:
        if self.host.path(disk.path).exists():
            return
        user = self.spec.user
        self.host.run(["install", "-d", "-o", user, "-g", user, str(Path(disk.path).parent)])
        self.host.run(["sh", "-euc", image_script(disk)])
        self.host.run(["chown", f"{user}:{user}", disk.path])


def image_script(disk: DiskSpec) -> str:
    """Shell commands that make the image of `disk`."""
    path, size = shlex.quote(disk.path), disk.size
    if not disk.filesystem:
        return f"qemu-img create -q -f {disk.format} {path} {size}"
    # Nothing is left for the kernel to initialize later: those writes would come at odd times.
    mkfs = f"mkfs.ext4 -q -b 4096 -N {INODES} -E lazy_itable_init=0,lazy_journal_init=0 {path}.new"
    convert = f"qemu-img convert -O {disk.format} {path}.new {path}"
    return f"truncate -s {size} {path}.new; {mkfs}; {convert}; rm {path}.new"
