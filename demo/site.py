# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab with the product in use: all is done as a user does it, by Ansible and the receiver's command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.lab import Lab
from lab.topology import CHAIN
from lab.vm import Vm

ROOT = Path(__file__).resolve().parent.parent
STORE = "/var/lib/livebackup/store"
WHEELHOUSE = "/srv/wheelhouse"
RESTORED = "/var/lib/livebackup-lab/restored"
RECAP = re.compile(
    r"^(?P<host>\S+)\s+: ok=\d+\s+changed=(?P<changed>\d+)\s+unreachable=(?P<unreachable>\d+)\s+"
    r"failed=(?P<failed>\d+)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class PlayResult:
    """How one ansible-playbook run ended: exit status, what it printed, and `changed` per host."""

    status: int
    output: str
    changed: dict[str, int]

    @property
    def ok(self) -> bool:
        return self.status == 0


class PlayFailed(Exception):
    """A playbook that had to succeed did not; carries everything it printed."""

    def __init__(self, playbook: str, result: PlayResult) -> None:
        super().__init__(f"playbook {playbook} failed with exit status {result.status}:\n{result.output}")
        self.result = result


@dataclass
class Site:
    """The lab's hosts as a customer's site: deploy, back up, look, restore."""

    lab: Lab
    group: str = "nightly"
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The receiver's address for API and page, on the lab's network."""
        return f"https://{self.lab.host('rcv').spec.address}:8440"

    @property
    def vms(self) -> list[Vm]:
        """The lab's machines in the order in which records travel."""
        return [self.lab.vm(name) for name in CHAIN]

    def variables(self, **more: Any) -> dict[str, Any]:
        """What a user writes into the inventory, plus the lab's folder of packages."""
        inventory = {
            "receiver": "receivers",
            "target": "hypervisors",
            "livebackup_receiver_url": self.url,
            "livebackup_group": self.group,
            "livebackup_pip_arguments": f"--no-index --find-links {WHEELHOUSE}",
            "livebackup_poll_interval": 1,
        }
        return inventory | self.settings | more

    def playbook(self, name: str, **more: Any) -> PlayResult:
        """Run a playbook of the collection (`deploy`, `backup`, `restore`), which may fail."""
        with tempfile.NamedTemporaryFile("w", suffix=".json", dir=ROOT / "build") as extra:
            json.dump(self.variables(**more), extra)
            extra.flush()
            done = self.ansible(["ansible-playbook", f"livebackup.qemu.{name}", "-e", f"@{extra.name}"])
        output = done.stdout + done.stderr
        changed = {row["host"]: int(row["changed"]) for row in RECAP.finditer(output)}
        return PlayResult(status=done.returncode, output=output, changed=changed)

    def play(self, name: str, **more: Any) -> PlayResult:
        """Run a playbook that has to succeed. Raises PlayFailed."""
        result = self.playbook(name, **more)
        if not result.ok:
            raise PlayFailed(name, result)
        return result

    def module(self, host: str, name: str, **options: Any) -> dict[str, Any]:
        """Run one module of the collection on one host, as `ansible HOST -m` does, and give its result."""
        with tempfile.TemporaryDirectory(dir=ROOT / "build") as tree:
            task = ["-m", f"livebackup.qemu.{name}", "-a", json.dumps(options)]
            done = self.ansible(["ansible", host, *task, "--tree", tree])
            answer = Path(tree) / host
            if not answer.exists():
                raise RuntimeError(f"module {name} on {host} gave no result: {done.stdout}{done.stderr}")
            result: dict[str, Any] = json.loads(answer.read_text())
        return result

    def ansible(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run an Ansible command on the controller side of the lab, against the lab's inventory."""
        settings = {
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build/collections"),
            "ANSIBLE_INVENTORY": str(self.lab.inventory),
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_HOST_KEY_CHECKING": "0",
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_FORKS": "8",
            "ANSIBLE_SHOW_CUSTOM_STATS": "1",
            "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
        }
        return self.lab.controller(command, env=settings, cwd=ROOT, check=False)

    def backup(self, **more: Any) -> dict[str, Any]:
        """One run of the group's backup that has to commit; gives the point it left."""
        before = {point["id"] for point in self.points()}
        self.play("backup", **more)
        new = [point for point in self.points() if point["id"] not in before]
        if len(new) != 1:
            raise RuntimeError(f"a backup of {self.group} left {len(new)} new points instead of one")
        return new[0]

    def receiver(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run livebackup-receiver on the receiver host."""
        return self.lab.host("rcv").run(["livebackup-receiver", *arguments])

    def points(self) -> list[dict[str, Any]]:
        """All points of the receiver, oldest first, in the API's shape."""
        shown = self.receiver("points", "--json")
        points: list[dict[str, Any]] = json.loads(shown.stdout)["points"]
        return sorted(points, key=lambda point: str(point["id"]))
