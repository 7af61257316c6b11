# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening the catalog's database and its transactions.

SQLite runs with WAL and ``synchronous=FULL``: a transaction that has returned is on the disk, which
the commit of a session relies upon. Any other database of SQLAlchemy goes through the same models.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from sqlite3 import Connection as SqliteConnection
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session

from livebackup_receiver.catalog.revision import NEWEST, current
from livebackup_receiver.errors import CatalogFailed, ConfigInvalid

SQLITE_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000")
BEGIN_OPTION = "livebackup_begin"


class Catalog:
    """The record of sessions, points and tokens; may be used from any thread."""

    def __init__(self, url: str) -> None:
        """:raise ConfigInvalid: the URL is none, or its driver is not installed"""
        try:
            self.url = make_url(url).render_as_string(hide_password=True)
            self._engine = _connect(url)
        except (ArgumentError, ModuleNotFoundError) as error:
            problem = str(error).splitlines()[0]
            raise ConfigInvalid(
                "catalog_url", problem, "see the URLs of SQLAlchemy, and install the driver"
            ) from None

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that sees one state and changes nothing."""
        with Session(self._engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that is durable when the block has ended, and undone if it raises."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            session.connection(execution_options={BEGIN_OPTION: "BEGIN IMMEDIATE"})
            yield session

    def migrate(self) -> None:
        """Bring the tables to the shape of this version.

        :raise CatalogFailed: the database cannot be reached or changed
        """
        try:
            with self._engine.begin() as connection:
                if current(connection) != NEWEST:
                    _upgrade(connection)
        except SQLAlchemyError as error:
            raise CatalogFailed(self.url, str(error).splitlines()[0]) from error

    def revision(self) -> str | None:
        """The revision of the tables, whatever it is; None for an empty database."""
        with self._engine.connect() as connection:
            return current(connection)

    def close(self) -> None:
        self._engine.dispose()


@contextmanager
def open_catalog(url: str) -> Iterator[Catalog]:
    """The migrated catalog at a SQLAlchemy URL; closed with the block.

    :raise CatalogFailed: the database cannot be reached or changed
    """
    catalog = Catalog(url)
    try:
        catalog.migrate()
        yield catalog
    finally:
        catalog.close()


def _upgrade(connection: Connection) -> None:
    # slow to import, and needed once in the life of a version
    from alembic import command
    from alembic.config import Config as AlembicConfig

    options = AlembicConfig()
    options.set_main_option("script_location", "livebackup_receiver:catalog/migrations")
    options.attributes["connection"] = connection
    command.upgrade(options, "head")


def _connect(url: str) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"check_same_thread": False})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: SqliteConnection, record: Any) -> None:
    # The driver would begin transactions at the first INSERT only, and never for DDL.
    connection.isolation_level = None
    for pragma in SQLITE_PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock at once: one that reads first and upgrades later may fail with "busy".
    connection.exec_driver_sql(connection.get_execution_options().get(BEGIN_OPTION, "BEGIN"))
