# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors about names that stand for nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from livebackup_receiver.errors.base import ReceiverError

NAMES_SHOWN = 8


class Unknown(ReceiverError):
    """Something was named that does not exist."""

    http_status = 404
    exit_code = 5


def among(names: Iterable[str]) -> str:
    """What to do about a name that is none of these; pure."""
    known = sorted(names)
    more = f" or one of {len(known) - NAMES_SHOWN} others" if len(known) > NAMES_SHOWN else ""
    return f"name one of {', '.join(known[:NAMES_SHOWN])}{more}"


@dataclass(eq=False)
class SessionUnknown(Unknown):
    session: str
    code = "session-unknown"
    cause_template = "session {e.session} does not exist"
    remedy_template = "list the sessions with GET /api/v1/sessions"


@dataclass(eq=False)
class PointUnknown(Unknown):
    point: str
    code = "point-unknown"
    cause_template = "point {e.point} does not exist"
    remedy_template = "list the points with `livebackup-receiver points` or GET /api/v1/points"


@dataclass(eq=False)
class GroupUnknown(Unknown):
    group: str
    code = "group-unknown"
    cause_template = "group {e.group} has never been backed up here"
    remedy_template = "list the groups with GET /api/v1/groups"


@dataclass(eq=False)
class VmUnknown(Unknown):
    vm: str
    where: str = "this receiver"
    hint: str = (
        "list the points with `livebackup-receiver points` or GET /api/v1/points, and with them their VMs"
    )
    code = "vm-unknown"
    cause_template = "VM {e.vm} is not in {e.where}"
    remedy_template = "{e.hint}"


@dataclass(eq=False)
class DiskUnknown(Unknown):
    vm: str
    disk: str
    where: str
    hint: str = "look at the point's disks with GET /api/v1/points/<id>"
    code = "disk-unknown"
    cause_template = "disk {e.disk} of VM {e.vm} is not in {e.where}"
    remedy_template = "{e.hint}"


@dataclass(eq=False)
class NoResync(Unknown):
    """A host asks for digests that its plan does not need."""

    vm: str
    disk: str
    host: str
    session: str
    code = "no-resync"
    cause_template = (
        "disk {e.disk} of VM {e.vm} on host {e.host} is not being resynchronized by session {e.session}"
    )
    remedy_template = "ask only for disks of the level resync, while the session is open"


@dataclass(eq=False)
class ExportUnknown(Unknown):
    export: str
    code = "export-unknown"
    cause_template = "export {e.export} does not exist or has expired"
    remedy_template = "make a new one with POST /api/v1/points/<id>/exports"


@dataclass(eq=False)
class LeaseUnknown(Unknown):
    lease: str
    code = "lease-unknown"
    cause_template = "lease {e.lease} does not exist, was released or has expired"
    remedy_template = "list the leases with `livebackup-receiver lease list` or GET /api/v1/leases"


@dataclass(eq=False)
class PolicyUnknown(Unknown):
    scope: str
    code = "policy-unknown"
    cause_template = "there is no policy for {e.scope}"
    remedy_template = "list them with `livebackup-receiver retention policies` or GET /api/v1/policies"


@dataclass(eq=False)
class RecoveryPlanUnknown(Unknown):
    group: str
    code = "recovery-plan-unknown"
    cause_template = "group {e.group} has no recovery plan"
    remedy_template = "declare one with `livebackup-receiver rehearse plan set`, or do without"


@dataclass(eq=False)
class RehearsalUnknown(Unknown):
    rehearsal: str
    code = "rehearsal-unknown"
    cause_template = "rehearsal {e.rehearsal} does not exist, or is not kept any more"
    remedy_template = "list the rehearsals of a group with `livebackup-receiver rehearse list`"


@dataclass(eq=False)
class NoPoint(Unknown):
    """A group has nothing that could be rehearsed."""

    group: str
    code = "no-point"
    cause_template = "group {e.group} has no complete restore point"
    remedy_template = "run its backup, or name an incomplete point"


@dataclass(eq=False)
class TokenUnknown(Unknown):
    token: str
    code = "token-unknown"
    cause_template = "there is no token named {e.token}"
    remedy_template = "list the tokens with `livebackup-receiver token list`"


@dataclass(eq=False)
class RouteUnknown(Unknown):
    path: str
    code = "route-unknown"
    cause_template = "{e.path} is no route of this receiver"
    remedy_template = "see the routes in /openapi.json"
