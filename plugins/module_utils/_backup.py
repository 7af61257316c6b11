# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module backup does: take part in a session, or foresee it.

For internal use of livebackup.qemu only.
"""

from __future__ import annotations

import asyncio
import shlex
import socket
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import (
    _bandwidth,
    _bitmaps,
    _discovery,
    _faultpoints,
    _quiesce,
    _receiver,
    _reconcile,
    _stopped,
    _suitability,
    _watchdog,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    LivebackupError,
    OptionError,
    SessionAborted,
    VmUnknown,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._member import Member, Members
from ansible_collections.livebackup.qemu.plugins.module_utils._participant import Participant, Settings
from ansible_collections.livebackup.qemu.plugins.module_utils._qmp import Monitor
from ansible_collections.livebackup.qemu.plugins.module_utils._receiver import Receiver
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Disk, Vm
from ansible_collections.livebackup.qemu.plugins.module_utils._watchdog import Watchdog

# A transfer that stalls is ended after the limit; one who has not even done that hangs.
HANG_STALLS = 2.0


def backup(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Take part in the session; a session that is already committed is left alone. Raises LivebackupError."""
    settings = settings_of(params)
    with _receiver.connected(params) as receiver:
        if check_mode:
            return asyncio.run(_foresee(params, settings, receiver))
        session = receiver.get(f"/sessions/{settings.session}")
        if session["state"] == "committed":
            return {
                "changed": False,
                "session": settings.session,
                "point": settings.session,
                "vms": [],
                "failed_vms": [],
            }
        if session["state"] == "aborted":
            raise SessionAborted(
                f"Session {settings.session} has already been aborted: {session['reason']}; open a new one.",
                session=settings.session,
                reason=session["reason"],
            )
        with _watchdog.started(HANG_STALLS * settings.stall_limit) as watchdog:
            _faultpoints.reached("participant.guarded")
            return asyncio.run(_take_part(params, settings, receiver, watchdog, session["policy"]))


def settings_of(params: dict[str, Any]) -> Settings:
    """The options of the module as the participant wants them. Raises OptionError."""
    return Settings(
        session=params["session"],
        host=params["host"] or socket.gethostname(),
        scratch_dir=params["scratch_dir"],
        cut_hook=_command(params["cut_hook"] or ""),
        cut_hook_timeout=params["cut_hook_timeout"],
        cbw_timeout=params["cbw_timeout"],
        speed=_bandwidth.checked("speed", params["speed"]),
        host_speed=_bandwidth.checked("host_speed", params["host_speed"]),
        stall_limit=params["stall_limit"],
        quiesce=_quiesce.from_options(params["quiesce"], params["guest_hooks"]),
    )


def _command(line: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(line))
    except ValueError as error:
        raise OptionError(
            f"cut_hook {line} is not a command: {error}; correct its quotes.", cut_hook=line
        ) from error


def chosen(
    params: dict[str, Any], discovery: _discovery.Discovery
) -> tuple[list[Monitor], list[_stopped.StoppedVm]]:
    """The monitors of the running VMs to back up, and the VMs that do not run.

    Raises VmUnknown if there is none, and what ``select`` raises.
    """
    named = _stopped.named(params)
    stopped = [vm for vm in named if vm.name not in discovery.monitors]
    wanted = {*(params["vms"] or ()), *(vm.name for vm in named if params["vms"])}
    names = sorted(wanted - {vm.name for vm in stopped})
    monitors = _discovery.select(discovery, names) if names or not wanted else []
    if not monitors and not stopped:
        raise VmUnknown(
            f"No VM runs here: no QEMU listens on {', '.join(params['qmp_sockets'])}; start the VMs or "
            f"correct qmp_sockets.",
            qmp_sockets=params["qmp_sockets"],
        )
    return monitors, stopped


async def _take_part(
    params: dict[str, Any], settings: Settings, receiver: Receiver, watchdog: Watchdog, policy: str
) -> dict[str, Any]:
    async with (
        watchdog.heartbeat(),
        _discovery.discovered(params["qmp_sockets"], params["qmp_timeout"]) as discovery,
    ):

        async def find() -> list[Monitor]:
            monitors, participant.stopped = chosen(params, discovery)
            await discovery.keep_only(monitors)
            return monitors

        participant = Participant(settings, receiver, watchdog, find, members=Members(policy))
        try:
            await participant.run()
        except LivebackupError as error:
            error.facts["warnings"] = participant.warnings
            raise
        return {
            "changed": True,
            "session": settings.session,
            "point": settings.session,
            "vms": [member_result(member, participant.plan) for member in participant.members.present],
            "barrier_ms": round(participant.window.barrier_ms, 1),
            "failed_vms": [
                {"vm": member.name, "msg": error.message} for member, error in participant.members.failed
            ],
            "warnings": participant.warnings,
        }


def member_result(member: Member, plan: dict[str, Any]) -> dict[str, Any]:
    """What the module returns of a VM that was backed up."""
    planned = {disk["disk"]: disk for vm in plan["vms"] if vm["vm"] == member.name for disk in vm["disks"]}
    return {
        "vm": member.name,
        "consistency": member.consistency,
        "pause_ms": round(member.pause.pause_ms or 0.0, 1),
        "disks": [
            {
                "disk": name,
                "level": disk["level"],
                "level_reason": disk["level_reason"],
                "parent": disk["parent"],
                "virtual_size": disk["virtual_size"],
                "dirty_bytes": member.dirty_bytes[name],
                "sent_bytes": member.sent_bytes[name],
            }
            for name, disk in planned.items()
        ],
    }


async def _foresee(params: dict[str, Any], settings: Settings, receiver: Receiver) -> dict[str, Any]:
    async with _discovery.discovered(params["qmp_sockets"], params["qmp_timeout"]) as discovery:
        monitors, stopped = chosen(params, discovery)
        vms = [await _discovery.inspect(monitor) for monitor in monitors]
    for vm in vms:
        _suitability.check_vm(vm)
    for each in stopped:
        async with _stopped.opened(each, read_only=True) as monitor:
            vms.append(await _stopped.inspect(monitor, each))
    verdicts = _reconcile.verdicts(receiver, settings.host, vms)
    return {
        "changed": True,
        "session": settings.session,
        "point": None,
        "failed_vms": [],
        "vms": [foreseen(vm, verdicts.get(vm.name, {})) for vm in vms],
    }


def foreseen(vm: Vm, verdict: _reconcile.Verdict) -> dict[str, Any]:
    """What a backup would do to a VM, as far as the bitmaps tell; pure."""
    return {
        "vm": vm.name,
        "consistency": None,
        "pause_ms": None,
        "disks": [
            _foreseen_disk(disk, verdict.get(disk.name, {}).get("keep"))
            for disk in vm.disks
            if _bitmaps.is_tracked(disk)
        ],
    }


def _foreseen_disk(disk: Disk, keep: str | None) -> dict[str, Any]:
    level = "incremental" if keep else "full"
    reason = f"written since {keep}" if keep else "no usable checkpoint bitmap"
    dirty = _bitmaps.dirty_bytes(disk, keep) if keep else disk.virtual_size
    return {
        "disk": disk.name,
        "level": level,
        "level_reason": reason,
        "parent": keep,
        "virtual_size": disk.virtual_size,
        "dirty_bytes": dirty,
        "sent_bytes": None,
    }
