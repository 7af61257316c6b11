# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups as the tests make them, and what their content is compared with."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import modules
from machine import Machine
from receiving import Peer, ReceiverProcess


def track(machine: Machine, **options: Any) -> dict[str, Any]:
    """Track all disks of a VM."""
    return modules.succeed("tracking", qmp_sockets=[machine.qmp], **options)


def arguments(machine: Machine, receiver: ReceiverProcess, session: str, **options: Any) -> dict[str, Any]:
    """The options of the module backup for one VM."""
    scratch = machine.directory / "scratch"
    scratch.mkdir(exist_ok=True)
    common = {"qmp_sockets": [machine.qmp], "session": session, "host": "hv1", "scratch_dir": str(scratch)}
    return {**receiver.options(), **common, **options}


def start(machine: Machine, receiver: ReceiverProcess, session: str, **options: Any) -> modules.Running:
    """Start a participant."""
    return modules.start("backup", **arguments(machine, receiver, session, **options))


def back_up(machine: Machine, receiver: ReceiverProcess, **options: Any) -> dict[str, Any]:
    """Back a VM up in a session of its own; it must not fail."""
    return modules.succeed("backup", **arguments(machine, receiver, receiver.open(), **options))


def fail(machine: Machine, receiver: ReceiverProcess, session: str, **options: Any) -> dict[str, Any]:
    """Take part in a session; it must fail."""
    result = modules.run("backup", **arguments(machine, receiver, session, **options))
    assert result.get("failed"), result
    return result


def back_up_exactly(machine: Machine, receiver: ReceiverProcess, **options: Any) -> dict[str, Any]:
    """Back a VM up and compare every layer with a copy of the images made in the stop window."""
    copies = {
        image.name: machine.directory / f"truth-{image.name}.{image.format}" for image in machine.images
    }
    copy = "; ".join(f"cp {machine.path(name)} {path}" for name, path in copies.items())
    result = back_up(machine, receiver, cut_hook=f"sh -c '{copy}'", **options)
    for name, truth in copies.items():
        assert_same(receiver.layer(machine.name, f"vd-{name}", result["point"]), truth)
        assert machine.checkpoints(name) == [result["point"]]
        assert machine.ends(name) == [result["point"]]
    assert machine.leftovers() == []
    assert machine.write_errors() == 0
    return result


def peer(receiver: ReceiverProcess, session: str, machine: Machine) -> Peer:
    """The second host of a session with this VM."""
    return Peer(receiver, session, f"other-of-{machine.name}")


def assert_same(image: Path, truth: Path) -> None:
    """Both images show the same content."""
    compared = subprocess.run(
        ["qemu-img", "compare", "-U", image, truth], capture_output=True, text=True, check=False
    )
    assert compared.returncode == 0, compared.stdout + compared.stderr


def levels(result: dict[str, Any]) -> dict[str, str]:
    """Level by disk of a backup of one VM."""
    return {disk["disk"]: disk["level"] for vm in result["vms"] for disk in vm["disks"]}
