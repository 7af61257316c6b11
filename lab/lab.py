# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole lab: its box, hosts, network and virtual machines."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab import guest, inventory, paths, rootfs, topology
from lab.box import Box
from lab.errors import LabError
from lab.host import Host
from lab.network import Network
from lab.process import run
from lab.topology import DEFAULT_HOSTS, VmSpec
from lab.vm import Vm

DEFAULT_NAME = "default"


class Lab:
    """The lab called `name` (default: LIVEBACKUP_LAB of the environment). Several may be up side by side."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name or os.environ.get("LIVEBACKUP_LAB") or DEFAULT_NAME
        self.state = paths.LAB_BUILD / self.name
        self.box = Box(self.state)
        self.network = Network(self.box)
        self.lock = self.state.with_suffix(".lock")
        self.key = self.state / "ssh_key"
        self.inventory = self.state / "inventory.yml"

    @classmethod
    @contextmanager
    def up(
        cls, name: str | None = None, *, hosts: Iterable[str] = DEFAULT_HOSTS, vms: bool = True
    ) -> Iterator[Lab]:
        """A lab that is up within the context and gone after it."""
        lab = cls(name)
        try:
            lab.start(hosts, vms=vms)
            yield lab
        finally:
            lab.down()

    def start(self, hosts: Iterable[str] = DEFAULT_HOSTS, *, vms: bool = True) -> None:
        """Bring up `hosts` and the machines that live on them, and wait. What is up is left alone."""
        if os.geteuid() != 0:
            raise LabError("The lab makes namespaces and mounts, which only root may; run it as root.")
        names = list(hosts)
        specs = [topology.host(name) for name in names]
        build()
        with paths.locked(self.lock):
            self.box.start()
            self._make_key()
            for name in names:
                self.host(name).start()
            for name in names:
                self.host(name).wait()
            known = {*specs, *(self.host(name).spec for name in self.hosts())}
            inventory.write(self.inventory, sorted(known, key=lambda spec: spec.address), self.key)
            if vms:
                self.start_vms(topology.vms_on(names))

    def start_vms(self, specs: Iterable[VmSpec]) -> None:
        """Start machines, the last of the chain first, and wait for all of them."""
        machines = [Vm(self.host(spec.host), spec) for spec in specs]
        for machine in reversed(machines):
            machine.start()
        for machine in machines:
            machine.wait()

    def down(self) -> None:
        """End everything of it and wipe its state."""
        with paths.locked(self.lock):
            self.box.stop()
            shutil.rmtree(self.state, ignore_errors=True)
            shutil.rmtree(inventory.control_paths(self.key), ignore_errors=True)
            self.lock.unlink()

    def hosts(self) -> list[str]:
        """Names of the hosts this lab has had, running or not."""
        return [name for name in topology.HOSTS if (self.state / "hosts" / name).exists()]

    def host(self, name: str) -> Host:
        """The host `name`; UnknownName if the topology has none."""
        return Host(self.box, topology.host(name))

    def vm(self, machine: str | VmSpec) -> Vm:
        """One of the usual machines by name, or any other by its description."""
        spec = topology.vm(machine) if isinstance(machine, str) else machine
        return Vm(self.host(spec.host), spec)

    def controller(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        input: str | None = None,
        timeout: float | None = 600,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` on the controller: this machine's file system, the lab's network."""
        return self.box.run(argv, check=check, input=input, timeout=timeout, env=env, cwd=cwd)

    def _make_key(self) -> None:
        if not self.key.exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "livebackup-lab", "-f", str(self.key)])


def build() -> None:
    """Make what every lab needs, if it is not there: the hosts' root tree and the guest."""
    rootfs.build()
    guest.build()


def names() -> list[str]:
    """Labs of this checkout that have left something behind or are up."""
    return sorted(path.parent.name for path in paths.LAB_BUILD.glob("*/hosts"))
