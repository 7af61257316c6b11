# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VMs a session must or should have, and which of them it lacks; pure.

A VM that crashed must not vanish unnoticed: whoever was in the group's newest point, or missing in it, is
expected until a session is told to forget it.

=================================== ============================== ==============================
a VM is absent                      policy all                     policy each
=================================== ============================== ==============================
and required                        abort                          abort
expected, its host takes part       abort                          missing, point incomplete
expected, its host takes no part    missing, point incomplete      missing, point incomplete
expected, but to be forgotten       not mentioned                  not mentioned
=================================== ============================== ==============================
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase

from livebackup_receiver.coordinator import transitions
from livebackup_receiver.errors import RequiredVmMissing, TooFewVms, VmMissing
from livebackup_receiver.model import (
    MissingVm,
    ParticipantState,
    Policy,
    Session,
    TransferState,
)

NAMED = 10


def absent(session: Session, expected: Mapping[str, str], coming: Collection[str]) -> list[MissingVm]:
    """The expected VMs that do not come and are not to be forgotten; one that has moved is not missing.

    :param expected: the VMs of the group's newest point, each with the host it was on
    :param coming: the VMs that were reported, whatever their host
    """
    return [
        MissingVm(vm=vm, host=host, reason=_reason(session, host))
        for vm, host in sorted(expected.items())
        if vm not in coming and not any(fnmatchcase(vm, pattern) for pattern in session.forget_vms)
    ]


def require(session: Session) -> None:
    """Ask whether a planned session still has the VMs it needs.

    :raise RequiredVmMissing: one that is required is not there, or has failed
    :raise TooFewVms: fewer than ``min_vms`` are left
    :raise VmMissing: the policy is ``all`` and an expected VM of a host that takes part did not come
    """
    if not session.disks or not (session.required_vms or session.min_vms or session.missing):
        return
    left = {disk.vm for disk in session.disks if disk.state is not TransferState.FAILED}
    if lost := sorted(set(session.required_vms) - left):
        raise RequiredVmMissing(session.id, _names(lost), _why(session, lost[0]))
    if len(left) < session.min_vms:
        raise TooFewVms(session.id, len(left), session.min_vms)
    silent = [each for each in session.missing if each.host in session.hosts]
    if silent and session.policy is Policy.ALL:
        raise VmMissing(session.id, _names([each.vm for each in silent]), silent[0].reason)


def lacking(session: Session) -> list[MissingVm]:
    """Every VM that the session's point lacks: those that did not come, and those that were left out."""
    failed = {disk.vm: disk.host for disk in session.disks if disk.state is TransferState.FAILED}
    left_out = [MissingVm(vm=vm, host=host, reason=_why(session, vm)) for vm, host in failed.items()]
    return sorted([*session.missing, *left_out], key=lambda each: each.vm)


def _reason(session: Session, host: str) -> str:
    participant = transitions.find(session, host)
    if host not in session.hosts:
        return f"its host {host} takes no part"
    if participant and participant.state is ParticipantState.FAILED:
        return f"{host} failed: {participant.reason}"
    return f"{host} did not report it, so it does not run there or was left out"


def _why(session: Session, vm: str) -> str:
    """Why a VM is not there, in the words of the record."""
    for missing in session.missing:
        if missing.vm == vm:
            return missing.reason
    reasons = (each.reason for each in session.transitions if each.subject.startswith(f"{vm}/"))
    failed = [disk for disk in session.disks if disk.vm == vm]
    return ([*filter(None, reasons)] or [""])[-1] if failed else "no host reported it"


def _names(vms: list[str]) -> str:
    more = f" and {len(vms) - NAMED} more" if len(vms) > NAMED else ""
    return ", ".join(vms[:NAMED]) + more
