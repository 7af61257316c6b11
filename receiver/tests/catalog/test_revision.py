# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.revision import NEWEST


def test_the_newest_revision_is_the_head_of_the_migrations() -> None:
    options = AlembicConfig()
    options.set_main_option("script_location", "livebackup_receiver:catalog/migrations")
    assert ScriptDirectory.from_config(options).get_current_head() == NEWEST


def test_a_migrated_catalog_is_at_the_newest_revision(catalog: Catalog) -> None:
    assert catalog.revision() == NEWEST


def test_an_empty_database_has_no_revision(tmp_path: Path) -> None:
    empty = Catalog(f"sqlite:///{tmp_path}/empty.sqlite3")
    try:
        assert empty.revision() is None
    finally:
        empty.close()


def test_a_command_does_not_wait_for_what_it_does_not_need() -> None:
    """Alembic and Apprise take half a second to import; the web framework takes more."""
    program = "import sys, livebackup_receiver.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"alembic", "apprise", "fastapi"} & set(loaded.stdout.split())
