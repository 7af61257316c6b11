# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first shape of the catalog."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "groups",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_groups")),
    )
    op.create_table(
        "tokens",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_tokens_digest")),
    )
    op.create_table(
        "points",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("group_name", sa.String(length=200), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("consistency", sa.String(), nullable=False),
        sa.Column("cut_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("committed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["group_name"], ["groups.name"], name=op.f("fk_points_group_name")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_points")),
    )
    with op.batch_alter_table("points", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_points_group_name"), ["group_name"], unique=False)

    op.create_table(
        "sessions",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("group_name", sa.String(length=200), nullable=False),
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("consistency", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("hosts", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["group_name"], ["groups.name"], name=op.f("fk_sessions_group_name")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
    )
    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sessions_group_name"), ["group_name"], unique=False)
        batch_op.create_index(batch_op.f("ix_sessions_state"), ["state"], unique=False)

    op.create_table(
        "participants",
        sa.Column("session_id", sa.String(length=26), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name=op.f("fk_participants_session_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("session_id", "host", name=op.f("pk_participants")),
    )
    op.create_table(
        "point_vms",
        sa.Column("point_id", sa.String(length=26), nullable=False),
        sa.Column("vm", sa.String(length=100), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("pause_ms", sa.Double(), nullable=True),
        sa.Column("consistency", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["point_id"], ["points.id"], name=op.f("fk_point_vms_point_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("point_id", "vm", name=op.f("pk_point_vms")),
    )
    with op.batch_alter_table("point_vms", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_point_vms_vm"), ["vm"], unique=False)

    op.create_table(
        "transfers",
        sa.Column("session_id", sa.String(length=26), nullable=False),
        sa.Column("vm", sa.String(length=100), nullable=False),
        sa.Column("disk", sa.String(length=100), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("level", sa.String(), nullable=False),
        sa.Column("level_reason", sa.String(), nullable=False),
        sa.Column("parent", sa.String(), nullable=True),
        sa.Column("virtual_size", sa.BigInteger(), nullable=False),
        sa.Column("dirty_bytes", sa.BigInteger(), nullable=True),
        sa.Column("done_bytes", sa.BigInteger(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sent_bytes", sa.BigInteger(), nullable=False),
        sa.Column("pause_ms", sa.Double(), nullable=True),
        sa.Column("consistency", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name=op.f("fk_transfers_session_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("session_id", "vm", "disk", name=op.f("pk_transfers")),
    )
    op.create_table(
        "transitions",
        sa.Column("session_id", sa.String(length=26), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("from_state", sa.String(), nullable=True),
        sa.Column("to_state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name=op.f("fk_transitions_session_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("session_id", "number", name=op.f("pk_transitions")),
    )
    op.create_table(
        "point_disks",
        sa.Column("point_id", sa.String(length=26), nullable=False),
        sa.Column("vm", sa.String(length=100), nullable=False),
        sa.Column("disk", sa.String(length=100), nullable=False),
        sa.Column("format", sa.String(), nullable=False),
        sa.Column("virtual_size", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.String(), nullable=False),
        sa.Column("level_reason", sa.String(), nullable=False),
        sa.Column("parent", sa.String(), nullable=True),
        sa.Column("layer", sa.String(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("dirty_bytes", sa.BigInteger(), nullable=True),
        sa.Column("sent_bytes", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["point_id", "vm"],
            ["point_vms.point_id", "point_vms.vm"],
            name=op.f("fk_point_disks_point_id_vm"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("point_id", "vm", "disk", name=op.f("pk_point_disks")),
    )
