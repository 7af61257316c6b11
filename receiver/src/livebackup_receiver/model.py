# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of the receiver: what a session and a restore point are.

One set of models is the live state in memory, the body of the API, and what the catalog keeps and
gives back, so that CLI, API and page cannot tell different stories. Sizes are bytes, times are aware
UTC datetimes (RFC 3339 in JSON), ids are ULIDs, which sort in the order of their making.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def rfc3339(moment: datetime) -> str:
    """The moment in UTC, with milliseconds and a Z."""
    return _utc(moment).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Moment = Annotated[
    datetime, AfterValidator(_utc), PlainSerializer(rfc3339, return_type=str, when_used="json")
]


class Policy(StrEnum):
    """all: any failure aborts the session; each: a failing VM is left out of the point."""

    ALL = "all"
    EACH = "each"


class Consistency(StrEnum):
    """What the guest had done for the cut; weakest first."""

    CRASH = "crash"
    FILESYSTEM = "filesystem"
    APPLICATION = "application"


class Level(StrEnum):
    """What is sent: all; what the bitmap has recorded; what differs from the head by its digests."""

    FULL = "full"
    INCREMENTAL = "incremental"
    RESYNC = "resync"


class SessionState(StrEnum):
    JOINING = "joining"
    PREPARING = "preparing"
    STOPPING = "stopping"
    CUTTING = "cutting"
    TRANSFERRING = "transferring"
    SEALING = "sealing"
    COMMITTED = "committed"
    ABORTED = "aborted"

    @property
    def ended(self) -> bool:
        return self in (SessionState.COMMITTED, SessionState.ABORTED)


class ParticipantState(StrEnum):
    JOINED = "joined"
    PREPARED = "prepared"
    STOPPED = "stopped"
    CUT = "cut"
    TRANSFERRING = "transferring"
    TRANSFERRED = "transferred"
    FINISHED = "finished"
    FAILED = "failed"


class TransferState(StrEnum):
    PLANNED = "planned"
    CUT = "cut"
    TRANSFERRING = "transferring"
    TRANSFERRED = "transferred"
    SEALED = "sealed"
    FAILED = "failed"


class Role(StrEnum):
    """What a token may do.

    backup: sessions and reconcile; read: every GET and the page; restore: read and exports; manage: read,
    policies, pins, locks and drops.
    """

    BACKUP = "backup"
    READ = "read"
    RESTORE = "restore"
    MANAGE = "manage"


class Model(BaseModel):
    """Base of all bodies: an unknown field is an error, not a surprise."""

    model_config = ConfigDict(extra="forbid")


class Transition(Model):
    """One change of state; ``subject`` is "session", a host, or "<vm>/<disk>"."""

    at: Moment
    subject: str
    from_: str | None
    to: str
    reason: str | None = None

    model_config = ConfigDict(
        extra="forbid",
        validate_by_name=True,
        serialize_by_alias=True,
        alias_generator=lambda name: name.rstrip("_"),
    )


class Participant(Model):
    host: str
    state: ParticipantState
    reason: str | None = None
    heard_at: Moment


class Transfer(Model):
    """One disk of a session: how it is backed up and how far it is.

    ``bytes_per_s`` is the mean over the last seconds of what is done, sent or not; ``progressed_at`` is when
    anything of it last moved.
    """

    vm: str
    disk: str
    host: str
    level: Level
    level_reason: str
    parent: str | None
    virtual_size: int
    dirty_bytes: int | None = None
    done_bytes: int = 0
    total_bytes: int = 0
    sent_bytes: int = 0
    bytes_per_s: int | None = None
    remaining_s: float | None = None
    progressed_at: Moment | None = None
    pause_ms: float | None = None
    consistency: Consistency | None = None
    state: TransferState = TransferState.PLANNED


class MissingVm(Model):
    """A VM that a point lacks; ``host`` is where it was last."""

    vm: str
    host: str
    reason: str


class Session(Model):
    """One run of a group's backup; ``disks`` is empty until it is planned.

    ``missing`` are the VMs of the group's newest point that did not come; ``forget_vms`` names, or patterns
    of names, of those that need not come any more. ``alarm`` says who has made no progress for too long.
    """

    id: str
    group: str
    policy: Policy
    consistency: Consistency
    state: SessionState
    reason: str | None = None
    opened_at: Moment
    ended_at: Moment | None = None
    hosts: list[str]
    required_vms: list[str] = []
    min_vms: int = 0
    forget_vms: list[str] = []
    missing: list[MissingVm] = []
    alarm: str | None = None
    participants: list[Participant] = []
    disks: list[Transfer] = []
    transitions: list[Transition] = []

    def snapshot(self) -> Session:
        """A copy that later changes do not reach; transitions never change, so they are shared."""
        return self.model_copy(
            update={
                "participants": [each.model_copy() for each in self.participants],
                "disks": [each.model_copy() for each in self.disks],
                "transitions": list(self.transitions),
            }
        )


class PointDisk(Model):
    """One disk of a point; ``layer`` is relative to the store.

    ``root`` is the digest of the disk's whole content, whatever layers it lies in; see the format of the
    store.
    """

    disk: str
    format: str = "qcow2"
    virtual_size: int
    level: Level
    level_reason: str
    parent: str | None
    layer: str
    stored_bytes: int
    dirty_bytes: int | None
    sent_bytes: int
    root: str | None


class PointVm(Model):
    vm: str
    host: str
    pause_ms: float | None
    consistency: Consistency
    disks: list[PointDisk]


class Outcome(StrEnum):
    """Of a rehearsal and of each VM in it; only a rehearsal is running, only a VM is not started."""

    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    COULD_NOT_RUN = "could-not-run"
    NOT_STARTED = "not-started"

    @property
    def words(self) -> str:
        return self.value.replace("-", " ")


class PointRehearsal(Model):
    """What is to be said of a rehearsal in short; ``whole``: of all VMs."""

    id: str
    whole: bool
    outcome: Outcome
    reason: str | None
    started_at: Moment
    ended_at: Moment


class Point(Model):
    """What a committed session leaves: one image per disk, all of the same cut.

    One that lacks VMs of its group is not complete, and ``missing`` names them. A pinned point is kept until
    ``pin_until``, or as long as it is pinned if that is null; a locked one cannot even be dropped by hand
    before ``locked_until``. ``rehearsal`` is the newest one of the point.
    """

    id: str
    group: str
    complete: bool
    consistency: Consistency
    cut_at: Moment
    committed_at: Moment
    vms: list[PointVm]
    missing: list[MissingVm] = []
    pin_reason: str | None = None
    pin_until: Moment | None = None
    locked_until: Moment | None = None
    rehearsal: PointRehearsal | None = None


class Group(Model):
    """A name under which VMs are backed up together, and what last became of it."""

    class LastPoint(Model):
        id: str
        committed_at: Moment

    class LastSession(Model):
        id: str
        state: SessionState
        reason: str | None

    name: str
    vms: list[str]
    last_point: LastPoint | None
    last_session: LastSession | None


class Transport(Model):
    """How to reach an NBD server: its port, and user and key (hex) of TLS-PSK."""

    port: int
    psk_username: str
    psk_key: str
