# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of the collection's playbooks as AWX starts them, and what they leave."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab.lab import Lab

ROOT = Path(__file__).resolve().parents[2]
EXTRA_VARIABLES = {
    "receiver": "receivers",
    "target": "hypervisors",
    "livebackup_group": "awx",
    "livebackup_receiver_url": "https://10.78.0.13:8440",
    "livebackup_pip_arguments": "--no-index --find-links /srv/wheelhouse",
    "livebackup_poll_interval": 1,
}
SETTINGS = {
    "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build" / "collections"),
    "ANSIBLE_HOST_KEY_CHECKING": "False",
    "ANSIBLE_PIPELINING": "True",
}


@dataclass(frozen=True)
class Job:
    """What a run of ansible-runner leaves in its artifacts."""

    artifacts: Path

    @property
    def status(self) -> str:
        return (self.artifacts / "status").read_text()

    @property
    def output(self) -> str:
        return (self.artifacts / "stdout").read_text()

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The events of one kind in the order in which they happened."""
        events = [json.loads(path.read_text()) for path in (self.artifacts / "job_events").glob("*.json")]
        return sorted(
            (each for each in events if each["event"] == kind), key=lambda each: int(each["counter"])
        )


@dataclass(frozen=True)
class Controller:
    """Runs playbooks of the collection as AWX does: ansible-runner, a private data directory, ssh-agent."""

    lab: Lab
    directory: Path

    def run(self, playbook: str, **variables: Any) -> Job:
        """Run a playbook of the collection to its end, well or not."""
        private = self.directory / f"{len(list(self.directory.iterdir()))}-{playbook}"
        self._write(private, playbook, EXTRA_VARIABLES | variables)
        command = [
            "ansible-runner",
            "run",
            str(private),
            "--playbook",
            "site.yml",
            "--ident",
            "job",
            "--quiet",
        ]
        self.lab.controller(command, check=False, cwd=ROOT)
        return Job(private / "artifacts" / "job")

    def _write(self, private: Path, playbook: str, variables: dict[str, Any]) -> None:
        inventory = yaml.safe_load(self.lab.inventory.read_text())
        del inventory["all"]["vars"]["ansible_ssh_private_key_file"]  # AWX hands keys over by an agent
        files = {
            "project/site.yml": yaml.safe_dump([{"import_playbook": f"livebackup.qemu.{playbook}"}]),
            "inventory/hosts.yml": yaml.safe_dump(inventory),
            "env/envvars": yaml.safe_dump(SETTINGS),
            "env/extravars": yaml.safe_dump(variables),
            "env/ssh_key": self.lab.key.read_text(),
        }
        for name, content in files.items():
            (private / name).parent.mkdir(parents=True, exist_ok=True)
            (private / name).write_text(content)
            (private / name).chmod(0o600)
