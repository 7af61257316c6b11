# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of the catalog's tables."""

from __future__ import annotations

from pathlib import Path

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.revision import compare


def test_a_migrated_catalog_is_at_the_newest_revision(catalog: Catalog) -> None:
    found, newest = compare(catalog)
    assert found == newest
    assert newest is not None


def test_an_empty_database_has_no_revision(tmp_path: Path) -> None:
    empty = Catalog(f"sqlite:///{tmp_path}/empty.sqlite3")
    try:
        assert compare(empty)[0] is None
    finally:
        empty.close()
