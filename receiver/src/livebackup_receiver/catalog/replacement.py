# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Putting a new catalog into the place of the old one, which is kept beside it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from sqlalchemy import make_url

from livebackup_receiver.catalog.contents import is_empty
from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.errors import CatalogNotEmpty
from livebackup_receiver.store import durable

T = TypeVar("T")

NEW_SUFFIX = ".new"
BESIDE = ("-wal", "-shm")


def replace_catalog(url: str, fill: Callable[[Catalog], T], *, now: datetime) -> tuple[T, Path | None]:
    """Fill a new catalog and have it take the old one's place, all at once.

    Of another database than SQLite the tables must be empty, and are filled where they are.

    :param url: a SQLAlchemy URL
    :returns: what ``fill`` has returned, and under which name the old file is kept, if there was one
    :raise CatalogNotEmpty: it is another database, and not empty
    :raise CatalogFailed: the database cannot be reached or changed
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return _fill_empty(url, fill), None
    path = Path(parsed.database)
    new = path.with_name(path.name + NEW_SUFFIX)
    durable.remove_files([new, *_beside(new)])
    with open_catalog(f"sqlite:///{new}") as catalog:
        filled = fill(catalog)
    # Closing the last connection has brought all of it into the one file.
    durable.sync_file(new)
    kept = _put_aside(path, now) if path.exists() else None
    durable.rename(new, path)
    return filled, kept


def _fill_empty(url: str, fill: Callable[[Catalog], T]) -> T:
    with open_catalog(url) as catalog:
        with catalog.read() as db:
            if not is_empty(db):
                raise CatalogNotEmpty(catalog.url)
        return fill(catalog)


def _put_aside(path: Path, now: datetime) -> Path:
    """Keep the old file under another name, and let nothing of it lie beside the new one."""
    kept = path.with_name(f"{path.name}.until-{now:%Y%m%dT%H%M%SZ}")
    # What cannot be read is no reason to lose what can: then its log is kept beside it.
    with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    try:
        os.link(path, kept)
    except OSError:
        shutil.copy2(path, kept)
        durable.sync_file(kept)
    for beside, name in zip(_beside(path), _beside(kept), strict=True):
        if beside.exists():
            beside.rename(name)
    durable.sync_directory(path.parent)
    return kept


def _beside(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in BESIDE]
