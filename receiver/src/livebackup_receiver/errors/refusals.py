# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors about requests that cannot be right at any time."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, field

from livebackup_receiver.errors.base import ReceiverError


def _this_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


class Refused(ReceiverError):
    """The request cannot be right at any time."""

    http_status = 422
    exit_code = 7


@dataclass(eq=False)
class BodyInvalid(Refused):
    where: str
    problem: str
    code = "body-invalid"
    cause_template = "{e.where}: {e.problem}"
    remedy_template = "compare the request with /openapi.json"


@dataclass(eq=False)
class NameInvalid(Refused):
    kind: str
    name: str
    code = "name-invalid"
    cause_template = "{e.kind} {e.name!r} is not usable as a name of a directory"
    remedy_template = (
        "use at most 100 letters, digits, dots, dashes and underscores, beginning with none of .-"
    )


@dataclass(eq=False)
class HostUnknown(Refused):
    host: str
    session: str
    code = "host-unknown"
    cause_template = "host {e.host} is not one of the hosts of session {e.session}"
    remedy_template = "open the session with all its hosts"


@dataclass(eq=False)
class NoVms(Refused):
    host: str
    code = "no-vms"
    cause_template = "host {e.host} reports no VM"
    remedy_template = "start its VMs, or take the host out of the group"


@dataclass(eq=False)
class NoTrackedDisk(Refused):
    vm: str
    code = "no-tracked-disk"
    cause_template = "VM {e.vm}: no disk is tracked"
    remedy_template = "run livebackup.qemu.tracking for it first"


@dataclass(eq=False)
class FormatUnsupported(Refused):
    vm: str
    disk: str
    format: str
    code = "format-unsupported"
    cause_template = "VM {e.vm}: disk {e.disk} has the format {e.format}, which cannot be backed up"
    remedy_template = "convert it to qcow2 or raw, or stop tracking it"


@dataclass(eq=False)
class RetentionInvalid(Refused):
    """A scope, policy, schedule or date that cannot be meant."""

    problem: str
    hint: str
    code = "retention-invalid"
    cause_template = "{e.problem}"
    remedy_template = "{e.hint}"


@dataclass(eq=False)
class RecoveryPlanInvalid(Refused):
    """What is declared of a group's recovery cannot be meant."""

    where: str
    problem: str
    code = "recovery-plan-invalid"
    cause_template = "{e.where}: {e.problem}"
    remedy_template = "correct it; nothing was changed"


@dataclass(eq=False)
class DatePassed(Refused):
    """A pin or lock that would be over before it begins."""

    what: str
    until: str
    code = "date-passed"
    cause_template = "a {e.what} cannot end at {e.until}, which is not in the future"
    remedy_template = "give a later date"


@dataclass(eq=False)
class TargetUnwritable(Refused):
    """The directory of a restore cannot be made or written; ``user``: by whom."""

    path: str
    problem: str
    user: str = field(default_factory=_this_user)
    code = "target-unwritable"
    cause_template = "{e.path} cannot be written by user {e.user} ({e.problem})"
    remedy_template = (
        "name a directory that this user may write, or make one with `install -d -o {e.user} DIRECTORY`"
    )


@dataclass(eq=False)
class OptionsUnclear(Refused):
    """Options of a command that cannot be meant together."""

    problem: str
    hint: str
    code = "options-unclear"
    cause_template = "{e.problem}"
    remedy_template = "{e.hint}"


@dataclass(eq=False)
class BasisUnusable(Refused):
    """What lies where a restore goes cannot be the older copy of which it takes what is the same."""

    path: str
    problem: str
    code = "basis-unusable"
    cause_template = "{e.path} cannot be the older copy for --delta: {e.problem}"
    remedy_template = "restore into another directory, or replace the file with --force instead"
