# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host of the lab: systemd-nspawn with a systemd of its own, on an overlay over the common root tree.

Its disk content is kept over `kill` and `stop`; `remove` wipes it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from lab import guest, paths, qemu, rootfs, truth
from lab.box import Box, kill_cgroup, processes_of, spawn
from lab.errors import CommandFailed, NotRunning
from lab.process import become, run
from lab.topology import NETWORK_PREFIX, HostSpec
from lab.waiting import until

ENVIRONMENT = (
    "HOME=/root",
    "LANG=C.UTF-8",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)
DEVICES = ("/dev/net/tun", "/dev/fuse", "/dev/loop-control", *(f"/dev/loop{number}" for number in range(8)))
POWER_OFF = "RTMIN+4"  # systemd(1)


class Host:
    """One host. Its state is what the kernel says, so any process may make this object."""

    def __init__(self, box: Box, spec: HostSpec) -> None:
        self.box = box
        self.spec = spec
        self.name = spec.name
        self.state = box.state / "hosts" / spec.name
        self.cgroup = box.cgroup / spec.name

    @property
    def pid(self) -> int:
        """The machine's process id of the host's systemd; NotRunning if there is none."""
        processes = processes_of(self.cgroup / "payload/init.scope")
        if not processes:
            raise NotRunning(f"The host {self.name}", f"start it with `python -m lab start {self.name}`")
        return processes[0]

    @property
    def running(self) -> bool:
        return bool(processes_of(self.cgroup / "payload/init.scope"))

    def start(self) -> None:
        """Boot it unless it runs; `wait` says when it is up."""
        if self.running:
            return
        self._connect()
        root = self._mount()
        self._configure(root)
        kill_cgroup(self.cgroup)
        spawn(self.cgroup, self.box.command(self._nspawn()), self.state / "console.log")

    def wait(self, timeout: float = 60) -> None:
        """Until it is booted, sshd included; TimedOut otherwise."""
        until(lambda: self.running and self._booted(), f"the host {self.name} was booted", timeout=timeout)

    def kill(self) -> None:
        """A power cut: every process of it, QEMU included, is gone at once."""
        kill_cgroup(self.cgroup)

    def stop(self) -> None:
        """A clean shutdown."""
        if self.running:
            run(["kill", f"-{POWER_OFF}", str(self.pid)])
            until(lambda: not self._populated(), f"the host {self.name} was shut down", timeout=60)
        kill_cgroup(self.cgroup)

    def remove(self) -> None:
        """Kill it and wipe its disk."""
        self.kill()
        self.box.run(["umount", str(self.state / "root")], check=False)
        self.box.run(["ip", "netns", "del", self.name], check=False)
        shutil.rmtree(self.state, ignore_errors=True)

    def path(self, path: str) -> Path:
        """A file of the running host as this machine can open it, sockets included."""
        return Path(f"/proc/{self.pid}/root{path}")

    def command(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
        """`argv` wrapped so that it runs in the host as root."""
        settings = [*ENVIRONMENT, *(f"{name}={value}" for name, value in (env or {}).items())]
        return ["nsenter", f"--target={self.pid}", "--all", "--", "env", "-i", *settings, *argv]

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        input: str | None = None,
        timeout: float | None = 120,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` in the host as root, without ssh."""
        done = run(self.command(argv, env), check=False, input=input, timeout=timeout)
        if check and done.returncode != 0:
            raise CommandFailed(argv, done.returncode, done.stdout, done.stderr, f" on the host {self.name}")
        return done

    def become(self, argv: Sequence[str]) -> NoReturn:
        """Replace this program by `argv` running in the host."""
        become(self.command(argv, {"TERM": os.environ.get("TERM", "dumb")}))

    @contextmanager
    def hung(self, pid: int) -> Iterator[None]:
        """Within it, the process `pid` (as the host numbers it) is stopped by SIGSTOP."""
        self.run(["kill", "-STOP", str(pid)])
        try:
            yield
        finally:
            self.run(["kill", "-CONT", str(pid)], check=False)

    def pids(self, pattern: str) -> list[int]:
        """Process ids (as the host numbers them) of the commands whose line matches `pattern`."""
        return [int(pid) for pid in self.run(["pgrep", "-f", "--", pattern], check=False).stdout.split()]

    def main_pid(self, unit: str) -> int:
        """The main process (as the host numbers it) of a systemd unit; NotRunning if it has none."""
        pid = int(self.run(["systemctl", "show", "--value", "--property=MainPID", unit]).stdout)
        if pid == 0:
            raise NotRunning(f"The unit {unit} of the host {self.name}", "see its journal there")
        return pid

    def _booted(self) -> bool:
        state = self.run(["systemctl", "is-system-running"], check=False).stdout.strip()
        return state in ("running", "degraded")

    def _populated(self) -> bool:
        return self.cgroup.exists() and "populated 1" in (self.cgroup / "cgroup.events").read_text()

    def _connect(self) -> None:
        """A network namespace of its own and a cable to the bridge; both outlive a kill."""
        name, port = self.name, self.spec.port
        if self.box.run(["ip", "link", "show", port], check=False).returncode == 0:
            return
        self.box.run(["ip", "netns", "add", name])
        for words in (
            f"link add {port} type veth peer name eth0 address {self.spec.mac} netns {name}",
            f"link set {port} master br0 up",
            f"-n {name} addr add {self.spec.address}/{NETWORK_PREFIX} dev eth0",
            f"-n {name} link set eth0 up",
            f"-n {name} link set lo up",
        ):
            self.box.run(["ip", *words.split()])

    def _mount(self) -> Path:
        directories = {name: self.state / name for name in ("upper", "work", "root")}
        for directory in directories.values():
            directory.mkdir(parents=True, exist_ok=True)
        root = directories["root"]
        layers = (
            f"lowerdir={rootfs.directory()},upperdir={directories['upper']},workdir={directories['work']}"
        )
        if self.box.run(["mountpoint", "-q", str(root)], check=False).returncode != 0:
            self.box.run(["mount", "-t", "overlay", "overlay", "-o", layers, str(root)])
        return self.box.path(root)

    def _configure(self, root: Path) -> None:
        """Name, keys and the truth script; only at the first start."""
        if (root / "root/.ssh/authorized_keys").exists():
            return
        (root / "etc/hostname").write_text(f"{self.name}\n")
        (root / "etc/machine-id").write_text("")
        keys = root / "root/.ssh/authorized_keys"
        keys.parent.mkdir(mode=0o700, exist_ok=True)
        shutil.copyfile(self.box.state / "ssh_key.pub", keys)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / "etc/ssh/ssh_host_ed25519_key")])
        truth.install(root)

    def _nspawn(self) -> list[str]:
        paths.WHEELHOUSE.mkdir(parents=True, exist_ok=True)
        devices = [f"--bind={device}" for device in DEVICES if Path(device).exists()]
        return [
            "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--console=pipe",
            f"--directory={self.state / 'root'}",
            f"--machine={self.name}", f"--hostname={self.name}",
            f"--network-namespace-path=/run/netns/{self.name}",
            "--resolv-conf=off", "--timezone=off", "--link-journal=no",
            "--capability=CAP_NET_ADMIN,CAP_SYS_ADMIN",
            f"--bind-ro={guest.directory()}:{qemu.GUEST}",
            f"--bind-ro={paths.WHEELHOUSE}:/srv/wheelhouse",
            *devices,
        ]  # fmt: skip
