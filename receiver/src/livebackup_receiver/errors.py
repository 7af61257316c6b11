# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every error the receiver raises on purpose.

ReceiverError                      500  exit 1
|- ConfigInvalid                   500  exit 2
|- CatalogFailed                   503  exit 3
|- NotReady                        503  exit 3
|- TokenInvalid                    401  exit 4
|- RoleDenied                      403  exit 4
|- Unknown                         404  exit 5
|  |- SessionUnknown
|  |- PointUnknown
|  |- GroupUnknown
|  |- VmUnknown
|  |- DiskUnknown
|  |- ExportUnknown
|  |- TokenUnknown
|  `- RouteUnknown
|- StoreBusy                       503  exit 3
|- Conflict                        409  exit 6
|  |- GroupBusy
|  |- VmBusy
|  |- SessionCommitted
|  |- StepUnexpected
|  |- TransitionRefused
|  |- TokenExists
|  |- TargetExists
|  `- TargetInUse
|- Refused                         422  exit 7
|  |- BodyInvalid
|  |- NameInvalid
|  |- HostUnknown
|  |- NoVms
|  |- NoTrackedDisk
|  |- FormatUnsupported
|  `- TargetUnwritable
|- StoreFull                       507  exit 8
|- TargetFull                      507  exit 8
|- CommandFailed                   500  exit 9
|  `- CommandTimedOut
|- StorageDaemonFailed             500  exit 9
|  `- NoPortFree                   503
|- LayerDamaged                    500  exit 10
|- ManifestInvalid                 500  exit 10
`- SessionAborted                  409  exit 11
   |- JoinTimedOut
   |- ParticipantSilent
   |- ParticipantFailed
   |- NobodyLeft
   |- AbortRequested
   `- SessionInterrupted

A class says its facts as fields, its sentence as ``cause`` and what to do as ``remedy``; both are
format strings over the error itself (``e``). ``code`` is the stable word of the API. The HTTP status
is applied in ``api.app``, the exit code in ``__main__``, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(eq=False)
class ReceiverError(Exception):
    """Base of all; str() is one sentence: the cause, then what to do."""

    code = "internal"
    http_status = 500
    exit_code = 1
    cause_template = "the receiver failed"
    remedy_template = "see the receiver's log"

    @property
    def cause(self) -> str:
        return self.cause_template.format(e=self)

    @property
    def remedy(self) -> str:
        return self.remedy_template.format(e=self)

    def __str__(self) -> str:
        return f"{self.cause}; {self.remedy}"


@dataclass(eq=False)
class ConfigInvalid(ReceiverError):
    """An option is unknown, missing or has a value of the wrong kind."""

    option: str
    problem: str
    hint: str
    code = "config-invalid"
    exit_code = 2
    cause_template = "option {e.option}: {e.problem}"
    remedy_template = "{e.hint}"


@dataclass(eq=False)
class CatalogFailed(ReceiverError):
    """The database refused or could not be reached."""

    url: str
    problem: str
    code = "catalog-failed"
    http_status = 503
    exit_code = 3
    cause_template = "the catalog {e.url} does not answer: {e.problem}"
    remedy_template = "check the database and its free space"


@dataclass(eq=False)
class NotReady(ReceiverError):
    """The receiver is starting or stopping."""

    state: str
    code = "not-ready"
    http_status = 503
    exit_code = 3
    cause_template = "the receiver is {e.state}"
    remedy_template = "try again in a moment"


@dataclass(eq=False)
class TokenInvalid(ReceiverError):
    """No bearer token, or one that the catalog does not know."""

    problem: str
    code = "token-invalid"
    http_status = 401
    exit_code = 4
    cause_template = "{e.problem}"
    remedy_template = "send `Authorization: Bearer <token>` with a token made by `livebackup-receiver token`"


@dataclass(eq=False)
class RoleDenied(ReceiverError):
    """The token is known but its role may not do this."""

    token: str
    role: str
    needed: str
    code = "role-denied"
    http_status = 403
    exit_code = 4
    cause_template = "token {e.token} has the role {e.role}, which may not do this"
    remedy_template = "use a token with the role {e.needed}"


class Unknown(ReceiverError):
    """Something was named that does not exist."""

    http_status = 404
    exit_code = 5


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
    code = "vm-unknown"
    cause_template = "VM {e.vm} is not in {e.where}"
    remedy_template = "list the points with GET /api/v1/points to see the names of their VMs"


@dataclass(eq=False)
class DiskUnknown(Unknown):
    vm: str
    disk: str
    where: str
    code = "disk-unknown"
    cause_template = "disk {e.disk} of VM {e.vm} is not in {e.where}"
    remedy_template = "look at the point's disks with GET /api/v1/points/<id>"


@dataclass(eq=False)
class ExportUnknown(Unknown):
    export: str
    code = "export-unknown"
    cause_template = "export {e.export} does not exist or has expired"
    remedy_template = "make a new one with POST /api/v1/points/<id>/exports"


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


@dataclass(eq=False)
class StoreBusy(ReceiverError):
    """Another receiver works in the store."""

    store: str
    code = "store-busy"
    http_status = 503
    exit_code = 3
    cause_template = "the store {e.store} is in use by another receiver"
    remedy_template = "stop that one first, or give this one a store of its own"


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
    """A restore would replace a file and was not told to."""

    path: str
    code = "target-exists"
    cause_template = "the file {e.path} already exists"
    remedy_template = "restore into another directory, or replace it with --force"


@dataclass(eq=False)
class TargetInUse(Conflict):
    """A process has the file open, as QEMU's lock on it tells."""

    path: str
    code = "target-in-use"
    cause_template = "the file {e.path} is in use by a VM or another process"
    remedy_template = "stop what uses it, or restore into another directory"


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
class TargetUnwritable(Refused):
    """The directory of a restore cannot be made or written."""

    path: str
    problem: str
    code = "target-unwritable"
    cause_template = "{e.path} cannot be written ({e.problem})"
    remedy_template = "name a directory that this user may write"


@dataclass(eq=False)
class StoreFull(ReceiverError):
    """Less room than the session needs; sizes in bytes."""

    store: str
    need_bytes: int
    free_bytes: int
    code = "store-full"
    http_status = 507
    exit_code = 8
    cause_template = "the store {e.store} needs {e.need_bytes:,} bytes free and has {e.free_bytes:,}"
    remedy_template = "free space in it or make it larger, then run the backup again"


@dataclass(eq=False)
class TargetFull(ReceiverError):
    """Less room than a restore needs; sizes in bytes."""

    directory: str
    need_bytes: int
    free_bytes: int
    code = "target-full"
    http_status = 507
    exit_code = 8
    cause_template = (
        "the restore needs {e.need_bytes:,} bytes in {e.directory}, which has {e.free_bytes:,} free"
    )
    remedy_template = "free space there, or restore into another directory"


@dataclass(eq=False)
class CommandFailed(ReceiverError):
    """A child process ended with an error; ``stderr`` is its last output."""

    command: str
    returncode: int
    stderr: str
    code = "command-failed"
    exit_code = 9
    cause_template = "`{e.command}` ended with {e.returncode}: {e.stderr}"
    remedy_template = "run it by hand to see more"


@dataclass(eq=False)
class CommandTimedOut(CommandFailed):
    timeout_s: float
    code = "command-timed-out"
    cause_template = "`{e.command}` was killed after {e.timeout_s:g} seconds: {e.stderr}"
    remedy_template = "look for a hung disk or process"


@dataclass(eq=False)
class StorageDaemonFailed(ReceiverError):
    """The storage daemon of a session did not do what it was asked."""

    daemon: str
    action: str
    problem: str
    code = "storage-daemon-failed"
    exit_code = 9
    cause_template = "the storage daemon of {e.daemon} could not {e.action}: {e.problem}"
    remedy_template = "run the backup again, and look at the receiver's log if it fails again"


@dataclass(eq=False)
class NoPortFree(StorageDaemonFailed):
    code = "no-port-free"
    http_status = 503
    remedy_template = "wait until a session or export has ended, or widen nbd_ports"


@dataclass(eq=False)
class LayerDamaged(ReceiverError):
    path: str
    problem: str
    code = "layer-damaged"
    exit_code = 10
    cause_template = "the layer {e.path} is damaged: {e.problem}"
    remedy_template = "check the disk it lies on, then run the backup again"


@dataclass(eq=False)
class ManifestInvalid(ReceiverError):
    path: str
    problem: str
    code = "manifest-invalid"
    exit_code = 10
    cause_template = "the manifest {e.path} cannot be read: {e.problem}"
    remedy_template = "restore it from a copy of the store, or remove it together with its layer"


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
class AbortRequested(SessionAborted):
    problem: str
    code = "abort-requested"
    cause_template = "aborted on request: {e.problem}"
    remedy_template = "run the backup again when you want it"


@dataclass(eq=False)
class SessionInterrupted(SessionAborted):
    code = "session-interrupted"
    cause_template = "the receiver was stopped while the session ran"
