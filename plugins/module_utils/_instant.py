# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A VM's disks at a point, at once: overlays here, everything else still on the receiver.

For internal use of livebackup.qemu only.
"""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
from dataclasses import dataclass
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import (
    _image_lock,
    _lease,
    _move,
    _overlay,
    _receiver,
    _target,
    _tender,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    FileExists,
    FileInUse,
    LivebackupError,
    OptionError,
    ReceiverError,
    VmOwned,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._receiver import Receiver
from ansible_collections.livebackup.qemu.plugins.module_utils._tender import Tender


@dataclass(frozen=True)
class Overlay:
    """One disk; ``backing`` is None: there is no file yet, "": it needs no backing file any more."""

    disk: str
    path: str
    size: int
    backing: str | None


def instant_restore(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Bring a VM's disks into the wanted state.

    Raises ReceiverError, RestoreError, VmError, OptionError, DependencyError, MonitorError.
    """
    work = {"served": _serve, "moved": _finish, "absent": _give_up}[params["state"]]
    return asyncio.run(work(params, check_mode))


async def _serve(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    tender = _tender.tender_of(params)
    known = _tender.read(tender)
    fresh = known is None
    owner = _owner(params)
    warnings: list[str] = []
    with _receiver.connected(params) as receiver:
        if fresh:
            targets = _wanted(receiver, params)
            overlays = await _look(tender, targets)
            _refuse_strangers(tender, overlays, everything=True)
            if not check_mode:
                disks = {each.disk: each.size for each in targets}
                known = _lease.take(receiver, params, tender, disks, owner)
        else:
            _refuse_other(params, known)
            overlays = await _look(tender, _known_targets(known))
            _refuse_strangers(tender, overlays)
            if not check_mode:
                await _lease.keep(receiver, params, tender, known, warnings)
    missing = [overlay for overlay in overlays if overlay.backing is None]
    started = not _tender.serves(tender)
    if not check_mode and known is not None:
        try:
            await _bring_up(tender, known["point"], missing, owner)
        except LivebackupError:
            if fresh:
                await _end(tender, known, warnings)
            raise
    changed = bool(missing) or started
    return {"changed": changed, **_facts(params, tender, overlays), "warnings": warnings}


async def _bring_up(
    tender: Tender, point: str, missing: list[Overlay], owner: tuple[int, int] | None
) -> None:
    """Start the tender, and make overlays; if anything fails, those just made go again.

    Raises the first error, but only when all has ended: what is cancelled might leave a program behind.
    """
    making = (
        _overlay.create(each.path, backing=tender.uri(each.disk), size=each.size, point=point, owner=owner)
        for each in missing
    )
    results = await asyncio.gather(_tender.start(tender), *making, return_exceptions=True)
    for error in results:
        if isinstance(error, BaseException):
            for each, result in zip(missing, results[1:]):
                if result is None:
                    os.unlink(each.path)
            raise error


def _wanted(receiver: Receiver, params: dict[str, Any]) -> list[Overlay]:
    vm = _target.vm_of(receiver.get(f"/points/{params['point']}"), params["vm"])
    targets = _target.targets_of({**params, "format": "qcow2", "paths": None, "track": True}, vm)
    return [Overlay(target.name, target.path, target.virtual_size, None) for target in targets]


def _known_targets(known: dict[str, Any]) -> list[Overlay]:
    return [
        Overlay(disk, os.path.join(known["dest"], f"{disk}.qcow2"), size, None)
        for disk, size in known["disks"].items()
    ]


async def _look(tender: Tender, targets: list[Overlay]) -> list[Overlay]:
    found = await asyncio.gather(*(_overlay.backing_of(each.path) for each in targets))
    return [Overlay(each.disk, each.path, each.size, backing) for each, backing in zip(targets, found)]


def _refuse_strangers(tender: Tender, overlays: list[Overlay], everything: bool = False) -> None:
    """Raise FileExists if a file is not what we have made; a disk that was moved has no backing file."""
    for each in overlays:
        ours = () if everything else (None, "", tender.uri(each.disk))
        if each.backing is not None and each.backing not in ours:
            raise FileExists(
                f"The file {each.path} exists and is not the overlay of an instant restore that goes on; "
                "move it away, or restore to another directory.",
                path=each.path,
            )


def _refuse_other(params: dict[str, Any], known: dict[str, Any]) -> None:
    """Raise VmOwned if the VM is being restored to something else."""
    wanted = {"point": params["point"], "vm": params["vm"], "dest": os.path.realpath(params["dest"])}
    same = all(known[name] == value for name, value in wanted.items())
    if same and set(params["disks"] or known["disks"]) == set(known["disks"]):
        return
    raise VmOwned(
        f"VM {known['name']} is already being restored, disks {', '.join(known['disks'])} from point "
        f"{known['point']} into {known['dest']}; end that first with state moved, or give it up with state "
        "absent.",
        vm=known["name"],
        point=known["point"],
        dest=known["dest"],
    )


async def _finish(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    tender = _tender.tender_of(params)
    known = _tender.read(tender)
    if known is None:
        return {"changed": False, "finished": True, "progress": [], **await _moved_before(params, tender)}
    overlays = await _look(tender, _known_targets(known))
    _refuse_strangers(tender, overlays)
    for each in overlays:
        if each.backing is None:
            raise OptionError(
                f"The overlay {each.path} of VM {tender.vm} is not there; bring it back, or give the restore "
                "up with state absent.",
                path=each.path,
            )
    finished, progress = False, []
    warnings: list[str] = []
    if not check_mode:
        if any(each.backing for each in overlays):
            await _tender.start(tender)
            progress = await _move.move(params, tender.vm, [(each.disk, each.path) for each in overlays])
        finished = all(each["finished"] for each in progress)
        if finished:
            await _end(tender, known, warnings)
    return {
        "changed": True,
        "finished": finished,
        "progress": progress,
        **_facts(params, tender, overlays),
        "warnings": warnings,
    }


async def _moved_before(params: dict[str, Any], tender: Tender) -> dict[str, Any]:
    """Raise OptionError unless the directory holds disks of the VM that were moved."""
    dest = os.path.realpath(params["dest"])
    names = params["disks"] or sorted(
        name[: -len(".qcow2")]
        for name in (os.listdir(dest) if os.path.isdir(dest) else [])
        if name.endswith(".qcow2")
    )
    overlays = await _look(
        tender, [Overlay(name, os.path.join(dest, f"{name}.qcow2"), 0, None) for name in names]
    )
    if not overlays or any(each.backing != "" for each in overlays):
        raise OptionError(
            f"VM {tender.vm} is not being restored into {params['dest']}; use state served first, or correct "
            "name, dest or state_dir.",
            vm=tender.vm,
            dest=params["dest"],
        )
    return _facts(params, tender, overlays)


async def _give_up(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    tender = _tender.tender_of(params)
    known = _tender.read(tender)
    if known is None:
        return {"changed": False, **_facts(params, tender, [])}
    overlays = [each for each in await _look(tender, _known_targets(known)) if each.backing]
    for each in overlays:
        await _refuse_loss(tender, each, params["force"])
    warnings: list[str] = []
    if not check_mode:
        for each in overlays:
            os.unlink(each.path)
        await _end(tender, known, warnings)
    return {"changed": True, **_facts(params, tender, []), "warnings": warnings}


async def _refuse_loss(tender: Tender, overlay: Overlay, force: bool) -> None:
    try:
        with _image_lock.claimed(overlay.path):
            pass
    except FileInUse as error:
        raise FileInUse(
            f"The overlay {overlay.path} is in use, perhaps by the running VM {tender.vm}, so the restore is "
            "not given up, not even with force; stop the VM first.",
            path=overlay.path,
        ) from error
    if not force and await _overlay.written_to(overlay.path):
        raise FileExists(
            f"The overlay {overlay.path} holds what VM {tender.vm} has written since it was restored; keep "
            "it with state moved, or set force to true to lose that.",
            path=overlay.path,
        )


async def _end(tender: Tender, known: dict[str, Any], warnings: list[str]) -> None:
    """The tender, the lease and all files of ours, in an order that can be repeated after a kill."""
    await _tender.stop(tender)
    try:
        _lease.release(tender, known)
    except ReceiverError as error:
        warnings.append(
            f"{error.message} The lease {known['lease']} of point {known['point']} could not be "
            "released; it ends by itself after some weeks, or by livebackup-receiver lease release."
        )
    _tender.forget(tender)


def _owner(params: dict[str, Any]) -> tuple[int, int] | None:
    """Who runs QEMU; None: who runs this. Raises OptionError."""
    user, group = params["owner"], params["group"]
    if user is None and group is None:
        return None
    try:
        entry = pwd.getpwnam(user) if user else pwd.getpwuid(os.geteuid())
        return entry.pw_uid, grp.getgrnam(group).gr_gid if group else entry.pw_gid
    except KeyError as error:
        raise OptionError(
            f"There is no such user or group on this host: {error.args[0]}; correct owner or group.",
            owner=user,
            group=group,
        ) from error


def _facts(params: dict[str, Any], tender: Tender, overlays: list[Overlay]) -> dict[str, Any]:
    """What the module returns beside its verdict. Pure."""
    return {
        "vm": tender.vm,
        "point": params["point"],
        "disks": [
            {
                "disk": each.disk,
                "path": each.path,
                "virtual_size": each.size,
                "blockdev": _overlay.blockdev(each.disk, each.path),
                "device": _overlay.device(each.disk),
            }
            for each in overlays
        ],
    }
