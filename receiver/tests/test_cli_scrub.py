# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`livebackup-receiver scrub` as a subprocess, without a receiver and beside one."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from command_line import Finished, Run, runner, write_options
from damaging import CLUSTER, bad_sector, flip, place_of
from sample_store import SampleStore, Write, read_image

from livebackup_receiver.config import Config
from livebackup_receiver.daemon import open_receiver
from livebackup_receiver.decisions import drop_points
from livebackup_receiver.model import Point
from livebackup_receiver.store.paths import Store

# Each command is a Python that starts anew.
pytestmark = pytest.mark.timeout(300)

A, B, WEB = ("db", "vd-a"), ("db", "vd-b"), ("web", "vd-a")


@pytest.fixture
def cli(config: Config, tmp_path: Path) -> Run:
    """Runs `livebackup-receiver` with the configuration of the test."""
    return runner(write_options(config, tmp_path / "receiver.toml"))


@pytest.fixture
def points(store: SampleStore) -> list[Point]:
    """Two points of three disks, made days ago."""
    made: list[Point] = []
    for day in (5, 4):
        writes = {key: [Write((5 - day) * CLUSTER, 8 * CLUSTER, day)] for key in (A, B, WEB)}
        made.append(store.add(writes, cut_at=datetime.now(UTC) - timedelta(days=day)))
    return made


def layers(result: Finished) -> list[tuple[str, str, str, str]]:
    return [
        (each["vm"], each["disk"], each["point"], each["result"])
        for each in json.loads(result.stdout)["layers"]
    ]


def test_everything_is_read_and_good(cli: Run, points: list[Point]) -> None:
    result = cli("scrub", "--all", "--json")
    assert result.returncode == 0, result.stderr
    assert layers(result) == [(*key, point.id, "good") for key in (A, B, WEB) for point in points]
    assert json.loads(result.stdout)["damage"] == []
    checks = {each["name"]: each for each in json.loads(cli("check", "--json").stdout)["checks"]}
    assert checks["scrub"]["message"].startswith("6 of 6 layers were read back")


def test_damage_has_its_exit_code_and_is_named(cli: Run, store: SampleStore, points: list[Point]) -> None:
    flip(store.layer(points[0], disk="vd-b"), 0)
    result = cli("scrub", "--vm", "db")
    assert result.returncode == 10
    (line,) = (line.split() for line in result.stdout.splitlines() if line.startswith("damaged"))
    assert line[:4] == ["damaged", "db", "vd-b", points[0].id]
    assert " ".join(line[4:]) == "its bytes do not match their digests: bytes 0 to 65536"
    hurt = f"bytes 0 to 65536, at 2 points: {points[0].id}, {points[1].id}; back it up again"
    assert hurt in result.stdout
    checks = {each["name"]: each for each in json.loads(cli("check", "--json").stdout)["checks"]}
    assert checks["scrub"]["state"] == "failed"
    assert hurt in checks["scrub"]["message"]


def test_what_cannot_be_read_has_another(cli: Run, store: SampleStore, points: list[Point]) -> None:
    layer = store.layer(points[0])
    with bad_sector(layer, place_of(layer, 0)):
        result = cli("scrub", "--vm", "db", "--disk", "vd-a", "--json")
    assert result.returncode == 8
    assert layers(result) == [(*A, points[0].id, "unreadable"), (*A, points[1].id, "good")]


def test_a_point_is_read_with_all_that_it_needs_and_no_more(
    cli: Run, store: SampleStore, points: list[Point]
) -> None:
    drop_points(store.catalog, Store(store.root), [points[0].id], now=datetime.now(UTC))
    result = cli("scrub", "--point", points[1].id, "--disk", "vd-a", "--json")
    assert layers(result) == [(*key, point.id, "good") for key in (A, WEB) for point in points]
    store.add({A: [Write(0, CLUSTER, 9)]})
    assert layers(cli("scrub", "--point", points[1].id, "--vm", "db", "--json")) == [
        (*key, point.id, "good") for key in (A, B) for point in points
    ]


def test_without_options_a_share_is_read(cli: Run, points: list[Point]) -> None:
    first = cli("scrub", "--json")
    assert layers(first) == [(*A, points[0].id, "good")]
    assert cli("scrub").stdout == "there is nothing to read\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--vm", "mail"], "VM mail is not in this receiver"),
        (["--vm", "db", "--disk", "vd-z"], "disk vd-z of VM db is not in this receiver"),
        (["--point", "01JD50BR1C8Q2W3E4R5T6Y7V8A"], "point 01JD50BR1C8Q2W3E4R5T6Y7V8A does not exist"),
    ],
)
def test_what_does_not_exist(cli: Run, points: list[Point], arguments: list[str], sentence: str) -> None:
    result = cli("scrub", *arguments)
    assert result.returncode == 5
    assert sentence in result.stderr


async def test_it_works_beside_a_receiver(
    cli: Run, config: Config, points: list[Point], store: SampleStore
) -> None:
    flip(store.layer(points[0]), 0)
    async with open_receiver(config) as receiver:
        result = await asyncio.to_thread(cli, "scrub", "--all", "--json")
        assert result.returncode == 10
        (scrub,) = (check for check in await receiver.checks.run() if check.name == "scrub")
    assert scrub.state == "failed"


def test_a_damaged_point_is_not_restored_unless_that_is_wanted(
    cli: Run, store: SampleStore, points: list[Point], tmp_path: Path
) -> None:
    flip(store.layer(points[0], disk="vd-b"), 0)
    cli("scrub", "--all")
    restore = ["restore", points[0].id, "--vm", "db", "--to", str(tmp_path / "out")]
    refused = cli(*restore)
    assert refused.returncode == 10
    assert f"disk vd-b of VM db is damaged at point {points[0].id}, bytes 0 to 65536; take" in refused.stderr
    assert not (tmp_path / "out").exists()
    assert cli(*restore, "--disk", "vd-a").returncode == 0
    assert cli(*restore, "--disk", "vd-b", "--no-verify").returncode == 10
    restored = cli(*restore, "--disk", "vd-b", "--accept-damage", "--json")
    assert restored.returncode == 10
    assert "disk vd-b of VM db: LOST, because it is damaged in the store: bytes 0 to 65536" in restored.stderr
    lost = [{"vm": "db", "disk": "vd-b", "ranges": [{"offset": 0, "length": CLUSTER}]}]
    assert json.loads(restored.stdout)["lost"] == lost
    content = read_image(tmp_path / "out/db/vd-b.qcow2", "qcow2", tmp_path)
    assert content[0] == 4
    assert content[1 : 8 * CLUSTER] == bytes([5]) * (8 * CLUSTER - 1)
