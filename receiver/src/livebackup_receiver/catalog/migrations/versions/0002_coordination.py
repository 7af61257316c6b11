# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VMs a session must have and which are missing; alarms; how fast disks are transferred."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002_coordination"
down_revision = "0001"


def upgrade() -> None:
    for name in ("required_vms", "forget_vms", "missing"):
        op.add_column("sessions", sa.Column(name, sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("sessions", sa.Column("min_vms", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("sessions", sa.Column("alarm", sa.String(), nullable=True))
    op.add_column("transfers", sa.Column("bytes_per_s", sa.BigInteger(), nullable=True))
    op.add_column("transfers", sa.Column("remaining_s", sa.Double(), nullable=True))
    op.add_column("transfers", sa.Column("progressed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("points", sa.Column("missing", sa.JSON(), nullable=False, server_default="[]"))
