# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pins, locks, policies and dropped points; what a scrub has found; digests of contents, not of files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003_store"
down_revision = "0002_coordination"


def upgrade() -> None:
    op.add_column("points", sa.Column("pin_reason", sa.String(), nullable=True))
    for name in ("pin_until", "locked_until", "dropped_at"):
        op.add_column("points", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.create_index(op.f("ix_points_dropped_at"), "points", ["dropped_at"])
    op.drop_column("point_disks", "digest")
    op.add_column("point_disks", sa.Column("root", sa.String(), nullable=True))
    op.create_table(
        "policies",
        sa.Column("scope", sa.String(length=220), nullable=False),
        sa.Column("policy", sa.JSON(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_policies")),
    )
    op.create_table(
        "layer_checks",
        sa.Column("vm", sa.String(length=100), nullable=False),
        sa.Column("disk", sa.String(length=100), nullable=False),
        sa.Column("point_id", sa.String(length=26), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("result", sa.String(), nullable=False),
        sa.Column("problem", sa.String(), nullable=True),
        sa.Column("ranges", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("vm", "disk", "point_id", name=op.f("pk_layer_checks")),
    )
