# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors about requests that come at the wrong time."""

from __future__ import annotations

from dataclasses import dataclass

from livebackup_receiver.errors.base import ReceiverError


class Conflict(ReceiverError):
    """The request is right but not now."""

    http_status = 409
    exit_code = 6


@dataclass(eq=False)
class GroupBusy(Conflict):
    group: str
    session: str
    code = "group-busy"
    cause_template = "group {e.group} is being backed up by session {e.session}"
    remedy_template = "wait until it has ended, or abort it"


@dataclass(eq=False)
class RehearsalRunning(Conflict):
    """There is one at a time."""

    rehearsal: str
    group: str
    code = "rehearsal-running"
    cause_template = "rehearsal {e.rehearsal} of group {e.group} is not done yet"
    remedy_template = "wait for its end, and ask again"


@dataclass(eq=False)
class VmBusy(Conflict):
    vm: str
    holder: str
    code = "vm-busy"
    cause_template = "VM {e.vm} already belongs to {e.holder}"
    remedy_template = "give each VM a unique name and back it up in one session at a time"


@dataclass(eq=False)
class SessionCommitted(Conflict):
    session: str
    code = "session-committed"
    cause_template = "session {e.session} is committed and cannot be aborted"
    remedy_template = "its restore point is complete; nothing needs to be done"


@dataclass(eq=False)
class StepUnexpected(Conflict):
    host: str
    step: str
    state: str
    code = "step-unexpected"
    cause_template = "participant {e.host} sent the step {e.step} while it is {e.state}"
    remedy_template = "run one participant per host and session, and follow the orders it is given"


@dataclass(eq=False)
class TransitionRefused(Conflict):
    subject: str
    current: str
    target: str
    code = "transition-refused"
    cause_template = "{e.subject} cannot go from {e.current} to {e.target}"
    remedy_template = "follow the orders that the receiver gives"


@dataclass(eq=False)
class TokenExists(Conflict):
    token: str
    code = "token-exists"
    cause_template = "there already is a token named {e.token}"
    remedy_template = "choose another name, or revoke that token first"


@dataclass(eq=False)
class TargetExists(Conflict):
    """A file would be replaced, and that was not said; ``hint``: what else to do."""

    path: str
    hint: str = "restore into another directory, or replace it with --force"
    code = "target-exists"
    cause_template = "the file {e.path} already exists"
    remedy_template = "{e.hint}"


@dataclass(eq=False)
class TargetInUse(Conflict):
    """A process has the file open, as QEMU's lock on it tells."""

    path: str
    code = "target-in-use"
    cause_template = "the file {e.path} is in use by a VM or another process"
    remedy_template = "stop what uses it, or restore into another directory"


@dataclass(eq=False)
class NameTaken(Conflict):
    """A VM would be restored under the name of another one."""

    name: str
    code = "name-taken"
    cause_template = "{e.name} is the name of another VM that is backed up here"
    remedy_template = "choose a name that no VM has"


@dataclass(eq=False)
class LayerInUse(Conflict):
    """A restore or an export reads what would be changed."""

    path: str
    code = "layer-in-use"
    cause_template = "{e.path} is being read"
    remedy_template = "nothing needs to be done; it is tried again later"


@dataclass(eq=False)
class PointKept(Conflict):
    """A point that may not be dropped."""

    point: str
    why: str
    code = "point-kept"
    cause_template = "point {e.point} cannot be dropped: it is {e.why}"
    remedy_template = (
        "wait, take the pin away, or end the instant restore; a lock cannot be taken away before its date"
    )


@dataclass(eq=False)
class MinimumUndercut(Conflict):
    """A drop after which there would be fewer complete points than a policy demands."""

    point: str
    scope: str
    minimum: int
    code = "minimum-undercut"
    cause_template = (
        "point {e.point} cannot be dropped: the policy for {e.scope} demands a minimum of {e.minimum}, "
        "and there are no more complete points than that"
    )
    remedy_template = "make another backup first, or lower the minimum of that policy, or withdraw it"


@dataclass(eq=False)
class LockShortened(Conflict):
    """A lock can be made longer only."""

    point: str
    until: str
    code = "lock-shortened"
    cause_template = "point {e.point} is locked until {e.until}, and a lock cannot be made shorter"
    remedy_template = "give a later date, or leave it as it is"
