# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a session ends without a point."""

from __future__ import annotations

from dataclasses import dataclass

from livebackup_receiver.errors.base import ReceiverError


@dataclass(eq=False)
class SessionAborted(ReceiverError):
    """Why a session ends without a point; its sentence becomes the session's reason."""

    session: str
    code = "session-aborted"
    http_status = 409
    exit_code = 11
    cause_template = "session {e.session} was aborted"
    remedy_template = "run the backup again"


@dataclass(eq=False)
class JoinTimedOut(SessionAborted):
    missing: str
    timeout_s: float
    code = "join-timeout"
    cause_template = "not joined within {e.timeout_s:g} seconds: {e.missing}"
    remedy_template = "look at the module's output on these hosts, then run the backup again"


@dataclass(eq=False)
class ParticipantSilent(SessionAborted):
    host: str
    silence_s: float
    state: str
    code = "participant-silent"
    cause_template = "participant {e.host} was silent for {e.silence_s:g} seconds while it was {e.state}"
    remedy_template = "look at the host and its connection, then run the backup again"


@dataclass(eq=False)
class ParticipantFailed(SessionAborted):
    host: str
    problem: str
    code = "participant-failed"
    cause_template = "participant {e.host} failed: {e.problem}"
    remedy_template = "solve this and run the backup again"


@dataclass(eq=False)
class NobodyLeft(SessionAborted):
    problem: str
    code = "nobody-left"
    cause_template = "no participant is left: {e.problem}"
    remedy_template = "solve this and run the backup again"


@dataclass(eq=False)
class TransferStalled(SessionAborted):
    host: str
    limit_s: float
    disks: str
    code = "transfer-stalled"
    cause_template = "{e.host} made no progress for {e.limit_s:g} seconds with {e.disks}"
    remedy_template = "look at its disks and at the network to the receiver, then run the backup again"


@dataclass(eq=False)
class RequiredVmMissing(SessionAborted):
    vms: str
    problem: str
    code = "required-vm-missing"
    cause_template = "required and not there: VM {e.vms} ({e.problem})"
    remedy_template = (
        "start it and see to its host, or take it out of required_vms, then run the backup again"
    )


@dataclass(eq=False)
class TooFewVms(SessionAborted):
    found: int
    needed: int
    code = "too-few-vms"
    cause_template = "only {e.found} VMs are there and min_vms asks for {e.needed}"
    remedy_template = "look why the others are not, or lower min_vms, then run the backup again"


@dataclass(eq=False)
class VmMissing(SessionAborted):
    vms: str
    problem: str
    code = "vm-missing"
    cause_template = "in the group's newest point but not there now: VM {e.vms} ({e.problem})"
    remedy_template = "start it and run the backup again, or name it in forget_vms if it has left the group"


@dataclass(eq=False)
class AbortRequested(SessionAborted):
    problem: str
    code = "abort-requested"
    cause_template = "aborted on request: {e.problem}"
    remedy_template = "run the backup again when you want it"


@dataclass(eq=False)
class SessionInterrupted(SessionAborted):
    code = "session-interrupted"
    cause_template = "the receiver was stopped while the session ran"
