# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a restore point to files on this host. For internal use of livebackup.qemu only."""

from __future__ import annotations

from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _image_lock, _receiver, _target
from ansible_collections.livebackup.qemu.plugins.module_utils._copy import Tally
from ansible_collections.livebackup.qemu.plugins.module_utils._diff import DifferenceTracker
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    ContentWrong,
    OptionError,
    ReceiverError,
    ReceiverRefused,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._receiver import Receiver
from ansible_collections.livebackup.qemu.plugins.module_utils._restoring import Restoring
from ansible_collections.livebackup.qemu.plugins.module_utils._target import Target

_DAMAGE = ("point-damaged", "point-lost")


def restore(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Bring the files into the state of the point.

    Raises RestoreError, ReceiverError, VmUnknown, DiskUnknown, OptionError.
    """
    if params["stall_limit"] <= 0:
        raise OptionError(
            f"stall_limit {params['stall_limit']:g} is no time to wait; give seconds, such as 30.",
            stall_limit=params["stall_limit"],
        )
    with _receiver.connected(params) as receiver:
        _receiver.require_same_version(receiver)
        vm = _target.vm_of(receiver.get(f"/points/{params['point']}"), params["vm"])
        targets = _target.targets_of(params, vm)
        due = [target for target in targets if not target.current]
        for target in due:
            # what is in use is said before what is merely there
            if target.exists:
                with _image_lock.claimed(target.path):
                    _target.refuse_unsafe(target, force=params["force"], delta=params["delta"])
        restoring = Restoring(receiver, params)
        if due and not check_mode:
            try:
                restoring.run(due)
            except ContentWrong as error:
                _ask_for_damage(receiver, params, error)
                raise
    return result(params, targets, restoring.tallies)


def _ask_for_damage(receiver: Receiver, params: dict[str, Any], error: ContentWrong) -> None:
    """Have the receiver look itself. Raises ReceiverRefused if it sees damage, and knows whole points."""
    disk, part = error.facts["disk"], {name: error.facts[name] for name in ("offset", "length")}
    try:
        receiver.get(f"/points/{params['point']}/vms/{params['vm']}/disks/{disk}/damage", **part)
    except ReceiverRefused as refused:
        if refused.code in _DAMAGE:
            raise
    except ReceiverError:
        return  # what came was wrong in any case


def result(params: dict[str, Any], targets: list[Target], tallies: dict[str, Tally]) -> dict[str, Any]:
    """What the module returns, in check mode too. Pure."""
    tracker = DifferenceTracker()
    for target in targets:
        before = target.origin if target.current else "another file" if target.exists else "absent"
        tracker.compare(target.path, before, target.origin)
    return {
        "changed": tracker.changed,
        "diff": tracker.diff(),
        "point": params["point"],
        "vm": params["vm"],
        "files": [file_info(target, _tally(target, tallies)) for target in targets],
    }


def _tally(target: Target, tallies: dict[str, Tally]) -> Tally | None:
    return Tally() if target.current else tallies.get(target.name)


def file_info(target: Target, tally: Tally | None) -> dict[str, Any]:
    """One file of the result; ``tally`` is None in check mode. Pure."""
    return {
        "disk": target.name,
        "path": target.path,
        "format": target.format,
        "virtual_size": target.virtual_size,
        "tracking": "bitmap" if target.origin["tracked"] else "none",
        "fetched_bytes": tally and tally.fetched_bytes,
        "kept_bytes": tally and tally.kept_bytes,
        "resumed_bytes": tally and tally.resumed_bytes,
        "changed": not target.current,
    }
