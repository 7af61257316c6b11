# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the catalog's tables have the shape of this version."""

from __future__ import annotations

from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory
from sqlalchemy import String, column, inspect, select, table
from sqlalchemy.orm import Session as Database

from livebackup_receiver.catalog.engine import Catalog

# Where Alembic keeps it; its own reader writes two lines into the log each time.
VERSION = table("alembic_version", column("version_num", String))


def compare(catalog: Catalog) -> tuple[str | None, str | None]:
    """The revision of the tables and the newest one; the first is None for an empty database."""
    options = AlembicConfig()
    options.set_main_option("script_location", "livebackup_receiver:catalog/migrations")
    newest = ScriptDirectory.from_config(options).get_current_head()
    with catalog.read() as db:
        return _current(db), newest


def _current(db: Database) -> str | None:
    if not inspect(db.connection()).has_table(VERSION.name):
        return None
    revision: str | None = db.scalar(select(VERSION.c.version_num))
    return revision
