# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""VMs and disks as data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Bitmap, Disk, Vm

FIXTURES = Path(__file__).parent / "fixtures"
CONTRACT = Path(__file__).parents[3] / "contract/examples"
OLD, NEW = "01JD2M3V5W6X7Y8Z9A0B1C2D3E", "01JD50BR1C8Q2W3E4R5T6Y7V8A"

MakeDisk = Callable[..., Disk]


@pytest.fixture(scope="session")
def qemu_replies() -> dict[str, Any]:
    """What a QEMU 7.2 really answered, by command; a filter of ours is on disk a."""
    replies: dict[str, Any] = json.loads((FIXTURES / "qemu-7.2-vm.json").read_text())
    return replies


@pytest.fixture(scope="session")
def example() -> Callable[[str], Any]:
    """An example of the contract with the receiver, by name."""

    def load(name: str) -> Any:
        return json.loads((CONTRACT / f"{name}.json").read_text())

    return load


def make_disk(*bitmaps: str | Bitmap, **changes: Any) -> Disk:
    """A disk vd-a with bitmaps, which may be given by name."""
    node = changes.get("node", "disk-a")
    found = tuple(Bitmap(node, each) if isinstance(each, str) else each for each in bitmaps)
    facts = {"name": "vd-a", "node": node, "format": "qcow2", "virtual_size": 1 << 30}
    return Disk(**{**facts, "device": "/machine/peripheral/vd-a", "bitmaps": found, **changes})


def make_vm(*disks: Disk, **changes: Any) -> Vm:
    """A running VM db with these disks."""
    return Vm(**{"name": "db", "socket": "/run/qemu/db.qmp", "disks": disks, **changes})


@pytest.fixture(name="make_disk")
def make_disk_fixture() -> MakeDisk:
    """``make_disk``."""
    return make_disk


@pytest.fixture(name="make_vm")
def make_vm_fixture() -> Callable[..., Vm]:
    """``make_vm``."""
    return make_vm


@pytest.fixture
def points() -> tuple[str, str]:
    """An older and a newer restore point."""
    return OLD, NEW
