# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a catalog's tables have the shape of this version."""

from __future__ import annotations

from sqlalchemy import Connection, String, column, inspect, select, table

# The head of the migrations; Alembic would find it, but takes longer to import than most commands take.
NEWEST = "0004_rehearsals"
# Where Alembic keeps it; its own reader writes two lines into the log each time.
VERSION = table("alembic_version", column("version_num", String))


def current(connection: Connection) -> str | None:
    """The revision of the tables; None for an empty database."""
    if not inspect(connection).has_table(VERSION.name):
        return None
    revision: str | None = connection.scalar(select(VERSION.c.version_num))
    return revision
