# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How groups are brought up, and what rehearsing that has shown."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004_rehearsals"
down_revision = "0003_store"


def upgrade() -> None:
    op.create_table(
        "recovery_plans",
        sa.Column("group_name", sa.String(length=200), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("group_name", name=op.f("pk_recovery_plans")),
    )
    op.create_table(
        "rehearsals",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("point_id", sa.String(length=26), nullable=False),
        sa.Column("group_name", sa.String(length=200), nullable=False),
        sa.Column("vms", sa.JSON(), nullable=False),
        sa.Column("whole", sa.Boolean(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rehearsals")),
    )
    for name in ("point_id", "group_name"):
        op.create_index(op.f(f"ix_rehearsals_{name}"), "rehearsals", [name])
