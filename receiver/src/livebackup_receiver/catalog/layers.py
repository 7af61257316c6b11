# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layers that committed points consist of."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session as Database

from livebackup_receiver.catalog.schema import PointDiskRow


def list_layers(db: Database) -> list[str]:
    """Every layer of every committed point, relative to the store, oldest first."""
    return list(db.scalars(select(PointDiskRow.layer).order_by(PointDiskRow.point_id, PointDiskRow.layer)))
