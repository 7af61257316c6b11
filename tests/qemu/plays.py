# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection's playbooks, run by Ansible against this very machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from machine import Machine
from modules import COLLECTIONS
from receiving import ReceiverProcess

PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")


def variables(vm: Machine, receiver: ReceiverProcess, **more: Any) -> dict[str, Any]:
    """What every playbook needs to know here."""
    token = vm.directory / "token"
    token.write_text(receiver.tokens["backup"])
    scratch = vm.directory / "scratch"
    scratch.mkdir(exist_ok=True)
    return {
        "target": "hv1",
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
        "ansible_async_dir": str(vm.directory / "async"),
        "livebackup_receiver_url": receiver.url,
        "livebackup_restore_token": receiver.tokens["restore"],
        "livebackup_ca_file": str(receiver.directory / "certificate.pem"),
        "livebackup_token_file": str(token),
        "livebackup_qmp_sockets": [str(vm.directory / "*.qmp")],
        "livebackup_scratch_directory": str(scratch),
        "livebackup_poll_interval": 1,
        **more,
    }


def start(name: str, given: dict[str, Any], *options: str) -> subprocess.Popen[str]:
    """Start a playbook of the collection."""
    return subprocess.Popen(
        [PLAYBOOK, "-i", "hv1,", f"livebackup.qemu.{name}", "-e", json.dumps(given), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_LOCALHOST_WARNING": "false",
        },
    )


def run(name: str, given: dict[str, Any], *options: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook to its end; its output has the lines of a message joined."""
    process = start(name, given, *options)
    output, _dummy = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, output)


def succeed(name: str, given: dict[str, Any], *options: str) -> str:
    """Run a playbook that must not fail; its output."""
    done = run(name, given, *options)
    assert done.returncode == 0, done.stdout
    return done.stdout


def fail(name: str, given: dict[str, Any], *options: str) -> str:
    """Run a playbook that must fail; its output."""
    done = run(name, given, *options)
    assert done.returncode != 0, done.stdout
    return done.stdout
