# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.catalog.groups import ensure_group, list_groups
from livebackup_receiver.catalog.schema import Table
from livebackup_receiver.clock import now
from livebackup_receiver.errors import CatalogFailed, ConfigInvalid


def test_migrations_make_exactly_the_models(catalog: Catalog) -> None:
    with catalog.read() as db:
        context = MigrationContext.configure(db.connection(), opts={"compare_type": True})
        assert compare_metadata(context, Table.metadata) == []


def test_migrating_twice_changes_nothing(catalog: Catalog) -> None:
    with catalog.write() as db:
        ensure_group(db, "nightly", now=now())
    catalog.migrate()
    with catalog.read() as db:
        assert [group.name for group in list_groups(db)] == ["nightly"]


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 10000)],
)
def test_sqlite_is_set_up_to_be_durable(catalog: Catalog, pragma: str, value: object) -> None:
    with catalog.read() as db:
        assert db.scalar(text(f"PRAGMA {pragma}")) == value


def test_a_transaction_that_fails_leaves_nothing(catalog: Catalog) -> None:
    with suppress(ZeroDivisionError), catalog.write() as db:
        ensure_group(db, "nightly", now=now())
        raise ZeroDivisionError
    with catalog.read() as db:
        assert list_groups(db) == []


def test_a_reader_sees_one_state_while_another_writes(catalog: Catalog) -> None:
    with catalog.read() as reader:
        assert list_groups(reader) == []
        with catalog.write() as writer:
            ensure_group(writer, "nightly", now=now())
        reader.expire_all()
        assert list_groups(reader) == []
    with catalog.read() as reader:
        assert len(list_groups(reader)) == 1


def test_a_catalog_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/none/catalog.sqlite3"
    with pytest.raises(CatalogFailed, match="unable to open database file"), open_catalog(url):
        pass


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("here", "Could not parse SQLAlchemy URL"),
        ("nosuch://user:secret@db/livebackup", "Can't load plugin: sqlalchemy.dialects:nosuch"),
        ("postgresql+nosuch://user:secret@db/livebackup", "Can't load plugin"),
        ("sqlite://user:secret@host/livebackup", "Invalid SQLite URL"),
    ],
)
def test_a_url_that_is_none_is_named_without_its_password(url: str, problem: str) -> None:
    with pytest.raises(ConfigInvalid, match=f"option catalog_url: {problem}") as caught:
        Catalog(url)
    assert "secret" not in str(caught.value)
