# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What cannot be backed up is refused with a reason and a remedy."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils import _capabilities, _names, _suitability
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    DiskBusy,
    DiskUnsupported,
    NotTracked,
    VmError,
    VmUnsupported,
)

ALL = _capabilities.REQUIRED


def test_a_fine_vm_passes(make_vm: Any, make_disk: Any) -> None:
    _suitability.check_vm(make_vm(make_disk(_names.MARKER), capabilities=ALL))


@pytest.mark.parametrize("status", ["running", "paused", "prelaunch", "suspended", "shutdown"])
def test_run_states_that_are_fine(make_vm: Any, make_disk: Any, status: str) -> None:
    _suitability.check_vm(make_vm(make_disk(_names.MARKER), capabilities=ALL, status=status))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        (
            {"capabilities": ALL - {"snapshot-access"}},
            VmUnsupported,
            "lacks snapshot-access; start the VM with QEMU 7.2",
        ),
        ({"status": "inmigrate"}, VmUnsupported, "waits for an incoming migration"),
        ({"status": "io-error"}, VmUnsupported, "paused by an I/O error"),
        ({"disks": ()}, NotTracked, "run livebackup.qemu.tracking for it first"),
        (
            {"edges": (("mirror", "source", "disk-a"),), "job_nodes": frozenset({"mirror"})},
            DiskBusy,
            "in use by the block job mirror",
        ),
    ],
)
def test_vms_that_are_refused(
    make_vm: Any, make_disk: Any, changes: dict[str, Any], error: type[VmError], words: str
) -> None:
    vm = make_vm(**{"disks": (make_disk(_names.MARKER),), "capabilities": ALL, **changes})
    with pytest.raises(error, match=words):
        _suitability.check_vm(vm)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "vmdk"}, "unsupported format or filter vmdk"),
        ({"format": "throttle"}, "top node disk-a has the unsupported format or filter throttle"),
        ({"format": "qcow2+encryption"}, "would hold its plain content"),
        ({"read_only": True}, "it is read-only"),
        ({"device": None}, "no device of the guest uses it"),
    ],
)
def test_disks_that_are_refused(make_vm: Any, make_disk: Any, changes: dict[str, Any], words: str) -> None:
    disk = make_disk(_names.MARKER, **changes)
    with pytest.raises(DiskUnsupported, match=words):
        _suitability.check_vm(make_vm(disk, capabilities=ALL))


def test_an_untracked_disk_may_be_anything(make_vm: Any, make_disk: Any) -> None:
    other = make_disk(name="vd-b", node="disk-b", format="vmdk")
    _suitability.check_vm(make_vm(make_disk(_names.MARKER), other, capabilities=ALL))
