# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of the catalog.

A row in ``points`` is the commit record: a session has a restore point if and only if it is there.
Points do not refer to sessions, because a catalog rebuilt from manifests has points only.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, ForeignKey, ForeignKeyConstraint, MetaData, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import JSON, TypeDecorator

from livebackup_receiver.model import MissingVm


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime; SQLite would lose the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class MissingVms(TypeDecorator[list[MissingVm]]):
    """VMs that a point lacks, as a JSON list."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: list[MissingVm] | None, dialect: Dialect) -> Any:
        return [each.model_dump() for each in value or ()]

    def process_result_value(self, value: Any, dialect: Dialect) -> list[MissingVm]:
        return [MissingVm(**each) for each in value or ()]


class Table(DeclarativeBase):
    """Base of all tables; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012
        datetime: UtcDateTime,
        int: BigInteger,
        list[str]: JSON,
        list[list[int]]: JSON,
        dict[str, Any]: JSON,
        list[MissingVm]: MissingVms,
    }


class GroupRow(Table):
    __tablename__ = "groups"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    created_at: Mapped[datetime]


class SessionRow(Table):
    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    group: Mapped[str] = mapped_column("group_name", ForeignKey("groups.name"), index=True)
    policy: Mapped[str]
    consistency: Mapped[str]
    state: Mapped[str] = mapped_column(index=True)
    reason: Mapped[str | None]
    opened_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    hosts: Mapped[list[str]]
    required_vms: Mapped[list[str]]
    min_vms: Mapped[int]
    forget_vms: Mapped[list[str]]
    missing: Mapped[list[MissingVm]]
    alarm: Mapped[str | None]

    participants: Mapped[list[ParticipantRow]] = relationship(
        order_by="ParticipantRow.host", cascade="all, delete-orphan"
    )
    transfers: Mapped[list[TransferRow]] = relationship(
        order_by="(TransferRow.vm, TransferRow.disk)", cascade="all, delete-orphan"
    )
    transitions: Mapped[list[TransitionRow]] = relationship(
        order_by="TransitionRow.number", cascade="all, delete-orphan"
    )


class ParticipantRow(Table):
    __tablename__ = "participants"

    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True)
    host: Mapped[str] = mapped_column(String(255), primary_key=True)
    state: Mapped[str]
    reason: Mapped[str | None]
    heard_at: Mapped[datetime]


class TransferRow(Table):
    __tablename__ = "transfers"

    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True)
    vm: Mapped[str] = mapped_column(String(100), primary_key=True)
    disk: Mapped[str] = mapped_column(String(100), primary_key=True)
    host: Mapped[str]
    level: Mapped[str]
    level_reason: Mapped[str]
    parent: Mapped[str | None]
    virtual_size: Mapped[int]
    dirty_bytes: Mapped[int | None]
    done_bytes: Mapped[int]
    total_bytes: Mapped[int]
    sent_bytes: Mapped[int]
    bytes_per_s: Mapped[int | None]
    remaining_s: Mapped[float | None]
    progressed_at: Mapped[datetime | None]
    pause_ms: Mapped[float | None]
    consistency: Mapped[str | None]
    state: Mapped[str]


class TransitionRow(Table):
    """A change of state; ``number`` counts from 0 within its session."""

    __tablename__ = "transitions"

    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    subject: Mapped[str]
    from_: Mapped[str | None] = mapped_column("from_state")
    to: Mapped[str] = mapped_column("to_state")
    reason: Mapped[str | None]


class PointRow(Table):
    """The commit record of a session, as long as its point or a layer of it exists."""

    __tablename__ = "points"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    group: Mapped[str] = mapped_column("group_name", ForeignKey("groups.name"), index=True)
    complete: Mapped[bool]
    consistency: Mapped[str]
    cut_at: Mapped[datetime]
    committed_at: Mapped[datetime]
    missing: Mapped[list[MissingVm]]
    pin_reason: Mapped[str | None]
    pin_until: Mapped[datetime | None]
    locked_until: Mapped[datetime | None]
    # Its layers may still be there, because kept points need their clusters.
    dropped_at: Mapped[datetime | None] = mapped_column(index=True)

    vms: Mapped[list[PointVmRow]] = relationship(order_by="PointVmRow.vm", cascade="all, delete-orphan")


class PointVmRow(Table):
    __tablename__ = "point_vms"

    point_id: Mapped[str] = mapped_column(ForeignKey("points.id", ondelete="CASCADE"), primary_key=True)
    vm: Mapped[str] = mapped_column(String(100), primary_key=True, index=True)
    host: Mapped[str]
    pause_ms: Mapped[float | None]
    consistency: Mapped[str]

    disks: Mapped[list[PointDiskRow]] = relationship(
        order_by="PointDiskRow.disk", cascade="all, delete-orphan"
    )


class PointDiskRow(Table):
    __tablename__ = "point_disks"
    __table_args__ = (
        ForeignKeyConstraint(["point_id", "vm"], ["point_vms.point_id", "point_vms.vm"], ondelete="CASCADE"),
    )

    point_id: Mapped[str] = mapped_column(String(26), primary_key=True)
    vm: Mapped[str] = mapped_column(String(100), primary_key=True)
    disk: Mapped[str] = mapped_column(String(100), primary_key=True)
    format: Mapped[str]
    virtual_size: Mapped[int]
    level: Mapped[str]
    level_reason: Mapped[str]
    parent: Mapped[str | None]
    layer: Mapped[str]
    stored_bytes: Mapped[int]
    dirty_bytes: Mapped[int | None]
    sent_bytes: Mapped[int]
    root: Mapped[str | None]


class PolicyRow(Table):
    """The retention policy of a group, a VM or a disk; ``scope`` as in "group:nightly"."""

    __tablename__ = "policies"

    scope: Mapped[str] = mapped_column(String(220), primary_key=True)
    policy: Mapped[dict[str, Any]]
    changed_at: Mapped[datetime]


class RecoveryPlanRow(Table):
    """How a group is brought up."""

    __tablename__ = "recovery_plans"

    group: Mapped[str] = mapped_column("group_name", String(200), primary_key=True)
    plan: Mapped[dict[str, Any]]
    changed_at: Mapped[datetime]


class RehearsalRow(Table):
    """What a rehearsal has shown; its members are in the store only, see ``rehearsal.kept``."""

    __tablename__ = "rehearsals"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    point_id: Mapped[str] = mapped_column(String(26), index=True)
    group: Mapped[str] = mapped_column("group_name", String(200), index=True)
    vms: Mapped[list[str]]
    whole: Mapped[bool]
    outcome: Mapped[str]
    reason: Mapped[str | None]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime]


class LayerCheckRow(Table):
    """When a layer was last read back, and what was found; ``ranges`` are pairs of offset and length.

    ``checked_at`` is null if that is only known of layers that were merged into this one.
    """

    __tablename__ = "layer_checks"

    vm: Mapped[str] = mapped_column(String(100), primary_key=True)
    disk: Mapped[str] = mapped_column(String(100), primary_key=True)
    point_id: Mapped[str] = mapped_column(String(26), primary_key=True)
    checked_at: Mapped[datetime | None]
    result: Mapped[str]
    problem: Mapped[str | None]
    ranges: Mapped[list[list[int]]]


class TokenRow(Table):
    """A token of the API, known by its SHA-256 only."""

    __tablename__ = "tokens"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    role: Mapped[str]
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
