# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VMs a session must have, and which of them a session or a point lacks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002_members"
down_revision = "0001"


def upgrade() -> None:
    for name in ("required_vms", "forget_vms", "missing"):
        op.add_column("sessions", sa.Column(name, sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("sessions", sa.Column("min_vms", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("points", sa.Column("missing", sa.JSON(), nullable=False, server_default="[]"))
