# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Ansible inventory of a lab: groups `hypervisors` and `receivers`, reached by ssh as root."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from lab.topology import HostSpec

SSH_ARGUMENTS = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"


def inventory(hosts: Iterable[HostSpec], key: Path) -> dict[str, Any]:
    """The inventory as data, for the hosts given and their private `key`."""
    groups: dict[str, Any] = {"hypervisors": {"hosts": {}}, "receivers": {"hosts": {}}}
    for host in hosts:
        groups[host.role]["hosts"][host.name] = {"ansible_host": host.address}
    variables = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": SSH_ARGUMENTS,
        "ansible_control_path_dir": str(control_paths(key)),
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    return {"all": {"vars": variables, "children": groups}}


def control_paths(key: Path) -> Path:
    """Where this lab's ssh connections are kept: labs have the same addresses, and must not share them.

    Not below the checkout, whose path may be too long for a socket.
    """
    return Path(tempfile.gettempdir(), f"livebackup-lab-{hashlib.sha256(bytes(key)).hexdigest()[:12]}")


def write(path: Path, hosts: Iterable[HostSpec], key: Path) -> None:
    path.write_text(yaml.safe_dump(inventory(hosts, key), sort_keys=False, explicit_start=True))
