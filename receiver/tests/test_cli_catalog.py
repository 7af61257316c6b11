# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`livebackup-receiver catalog` as a subprocess; the catalog is lost in every way."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from command_line import Run, runner, write_options
from sample_store import SampleStore, Write

from livebackup_receiver.catalog import tokens
from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.catalog.points import list_points
from livebackup_receiver.catalog.replacement import replace_catalog
from livebackup_receiver.clock import now
from livebackup_receiver.config import Config
from livebackup_receiver.daemon import open_receiver
from livebackup_receiver.errors import CatalogLost, CatalogNotEmpty
from livebackup_receiver.model import Point, Role

# Each command is a Python that starts anew.
pytestmark = pytest.mark.timeout(300)

A = ("db", "vd-a")


@pytest.fixture
def cli(config: Config, tmp_path: Path) -> Run:
    """Runs `livebackup-receiver catalog` with the configuration of the test."""
    return runner(write_options(config, tmp_path / "receiver.toml"), "catalog")


@pytest.fixture
def points(config: Config) -> list[Point]:
    """Two points, a token, and a catalog that nobody has open."""
    with open_catalog(config.database_url) as catalog:
        sample = SampleStore(config.store, catalog)
        with catalog.write() as db:
            tokens.create(db, name="hv1", role=Role.BACKUP, now=now())
        return [
            sample.add({A: [Write(0, 65536, day)]}, cut_at=datetime(2026, 3, day, tzinfo=UTC))
            for day in (1, 2)
        ]


def known(config: Config) -> list[Point]:
    with open_catalog(config.database_url) as catalog, catalog.read() as db:
        return list_points(db)[::-1]


def files(config: Config) -> set[str]:
    return {path.name for path in config.store.iterdir() if path.is_file()}


def test_a_catalog_that_is_right(cli: Run, points: list[Point]) -> None:
    result = cli("check")
    assert (result.returncode, result.stdout) == (0, "catalog and store say the same\n")
    assert json.loads(cli("check", "--json").stdout) == {"differences": []}


def test_each_difference_is_a_sentence(cli: Run, config: Config, points: list[Point]) -> None:
    (config.store / "vms/db/vd-a/mine.txt").touch()
    result = cli("check")
    assert (result.returncode, result.stdout) == (10, "vms/db/vd-a/mine.txt is of unknown origin\n")
    assert json.loads(cli("check", "--json").stdout)["differences"] == [
        {
            "kind": "unknown-file",
            "subject": "vms/db/vd-a/mine.txt",
            "sentence": "vms/db/vd-a/mine.txt is of unknown origin",
        }
    ]


def test_a_lost_catalog_comes_back(cli: Run, config: Config, points: list[Point]) -> None:
    for path in config.store.glob("catalog.sqlite3*"):
        path.unlink()
    result = cli("rebuild")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "points: 2, dropped ones whose layers are still there: 0",
        "tokens and sessions are in no file of the store: make new tokens with "
        "`livebackup-receiver token create`",
    ]
    assert known(config) == points
    assert files(config) == {"catalog.sqlite3", ".lock", "format.json"}


def test_the_old_catalog_is_kept(cli: Run, config: Config, points: list[Point]) -> None:
    answer = json.loads(cli("rebuild", "--json").stdout)
    assert answer["points"] == [point.id for point in points]
    old = Path(answer["old_catalog"])
    assert old.name.startswith("catalog.sqlite3.until-")
    with open_catalog(f"sqlite:///{old}") as catalog, catalog.read() as db:
        assert [token.name for token in tokens.every(db)] == ["hv1"]
        assert list_points(db)[::-1] == points
    with open_catalog(config.database_url) as catalog, catalog.read() as db:
        assert tokens.every(db) == []
    assert known(config) == points
    assert cli("check").returncode == 0


def test_what_the_old_catalog_had_only_in_its_log_is_kept_too(
    cli: Run, config: Config, points: list[Point]
) -> None:
    """A killed receiver leaves its newest transactions in the file beside."""
    catalog = Catalog(config.database_url)
    with catalog.write() as db:
        tokens.create(db, name="newest", role=Role.READ, now=now())
    path = config.store / "catalog.sqlite3"
    saved = {each: each.read_bytes() for each in (path, path.with_name(path.name + "-wal"))}
    catalog.close()
    for each, content in saved.items():
        each.write_bytes(content)
    old = Path(json.loads(cli("rebuild", "--json").stdout)["old_catalog"])
    with open_catalog(f"sqlite:///{old}") as before, before.read() as db:
        assert {token.name for token in tokens.every(db)} == {"hv1", "newest"}
    assert known(config) == points


def test_a_damaged_catalog_is_replaced(cli: Run, config: Config, points: list[Point]) -> None:
    (config.store / "catalog.sqlite3").write_bytes(b"no database" * 1000)
    assert cli("rebuild").returncode == 0
    assert known(config) == points


def test_a_rebuild_that_fails_leaves_the_old_one(cli: Run, config: Config, points: list[Point]) -> None:
    (config.store / "policies.json").write_text("{")
    result = cli("rebuild")
    assert result.returncode == 10
    assert "policies.json cannot be read" in result.stderr
    assert known(config) == points


def test_what_is_not_whole_is_told(cli: Run, config: Config, points: list[Point]) -> None:
    (config.store / f"vms/db/vd-a/{points[1].id}.qcow2").unlink()
    assert cli("rebuild").stdout.splitlines()[:2] == [
        "points: 1, dropped ones whose layers are still there: 0",
        f"point {points[1].id} of group nightly is not whole, its files are left as they are: "
        "disk vd-a of VM db: its layer is missing",
    ]


async def test_nobody_rebuilds_while_a_receiver_runs(cli: Run, config: Config, points: list[Point]) -> None:
    async with open_receiver(config):
        result = await asyncio.to_thread(cli, "rebuild")
        assert (await asyncio.to_thread(cli, "check")).returncode == 0
    assert result.returncode == 3
    assert "is in use by another receiver" in result.stderr


async def test_a_receiver_does_not_begin_anew_over_an_old_store(config: Config, points: list[Point]) -> None:
    for path in config.store.glob("catalog.sqlite3*"):
        path.unlink()
    with pytest.raises(CatalogLost, match=r"is empty, and the store .* is not; bring the catalog back"):
        async with open_receiver(config):
            pass


async def test_a_rebuilt_catalog_serves(cli: Run, config: Config, points: list[Point]) -> None:
    for path in config.store.glob("catalog.sqlite3*"):
        path.unlink()
    await asyncio.to_thread(cli, "rebuild")
    async with open_receiver(config) as receiver:
        with receiver.catalog.read() as db:
            assert list_points(db)[::-1] == points


def test_a_newer_store_is_refused(cli: Run, config: Config, points: list[Point]) -> None:
    (config.store / "format.json").write_text('{"format": "livebackup-store", "version": 2}')
    for command in ("check", "rebuild"):
        result = cli(command)
        assert result.returncode == 8
        assert "it has version 2 of its format, and this receiver knows up to 1" in result.stderr


def test_another_database_than_sqlite_must_be_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other goes this way; here it is SQLite's own in-memory database, and one that is full."""
    filled, kept = replace_catalog("sqlite://", lambda catalog: catalog.url, now=now())
    assert (filled, kept) == ("sqlite://", None)
    url = f"sqlite:///{tmp_path}/full.sqlite3"
    with open_catalog(url) as catalog, catalog.write() as db:
        tokens.create(db, name="hv1", role=Role.BACKUP, now=now())
    monkeypatch.setattr("sqlalchemy.engine.url.URL.get_backend_name", lambda url: "other")
    with pytest.raises(CatalogNotEmpty, match="name an empty database in catalog_url"):
        replace_catalog(url, lambda catalog: None, now=now())


COMMANDS = (
    ("points",),
    ("room",),
    ("scrub",),
    ("retention", "plan", "nightly"),
    ("restore", "{point}", "--vm", "db", "--to", "{out}"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_no_command_takes_an_empty_catalog_for_an_empty_store(
    config: Config, points: list[Point], tmp_path: Path, command: tuple[str, ...]
) -> None:
    (config.store / "catalog.sqlite3").unlink()
    run = runner(write_options(config, tmp_path / "receiver.toml"))
    done = run(*(word.format(point=points[0].id, out=tmp_path / "out") for word in command))
    assert (done.returncode, done.stdout) == (3, "")
    assert "is empty, and the store" in done.stderr
    assert "livebackup-receiver catalog rebuild" in done.stderr


def test_the_check_says_that_the_catalog_is_lost_without_a_traceback(
    config: Config, points: list[Point], tmp_path: Path
) -> None:
    (config.store / "catalog.sqlite3").unlink()
    run = runner(write_options(config, tmp_path / "receiver.toml"))
    done = run("check", "--json")
    assert done.returncode == 2
    messages = {each["name"]: each["message"] for each in json.loads(done.stdout)["checks"]}
    assert "livebackup-receiver catalog rebuild" in messages["catalog"]
    assert "the catalog cannot be asked: " in messages["layers"]
    assert "Traceback" not in done.stderr
    assert "SELECT" not in done.stderr
