# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of a store, taken at any moment, open on another machine."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from forked import FORK
from rebuilding import consolidate, differences, new_catalog, rebuilt
from sample_store import KIB, SampleStore, Write, read_image, run

from livebackup_receiver import faultpoints
from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.catalog.points import list_points
from livebackup_receiver.config import Config
from livebackup_receiver.coordinator.recovery import recover
from livebackup_receiver.decisions import drop_points
from livebackup_receiver.model import Point
from livebackup_receiver.store.ancestry import ancestry
from livebackup_receiver.store.digests import read_chain, root_of
from livebackup_receiver.store.paths import Store

START = datetime(2026, 3, 1, 3, tzinfo=UTC)
NOW = START + timedelta(days=30)
A, B = ("db", "vd-a"), ("db", "vd-b")
MERGES = [point for point, when in faultpoints.POINTS.items() if when == faultpoints.MERGE]


@pytest.fixture
def sample(config: Config, catalog: Catalog) -> SampleStore:
    return SampleStore(config.store, catalog)


def copy(root: Path, target: Path) -> Path:
    """What rsync or a snapshot of the file system would give."""
    run("cp", "-a", str(root), str(target))
    return target


def require_right(root: Path, url: str, content: dict[str, bytes], scratch: Path) -> None:
    """Every point of a copy is there and reads as it did, and catalog and store say the same."""
    directory = Store(root).disk(*A)
    with open_catalog(url) as catalog:
        with catalog.read() as db:
            found = list_points(db)
        assert {point.id for point in found} == set(content)
        for point in found:
            assert read_image(directory.layer(point.id), "qcow2", scratch) == content[point.id]
            tables = read_chain([directory.digests(each) for each in ancestry(directory, point.id)])
            assert root_of(tables) == point.vms[0].disks[0].root
        assert differences(catalog, root) == []


def four_points(sample: SampleStore) -> tuple[list[Point], dict[str, bytes]]:
    points: list[Point] = []
    content: dict[str, bytes] = {}
    for number in range(4):
        cut_at = START + timedelta(days=number)
        write = Write(number * 128 * KIB, 192 * KIB, number + 1)
        points.append(sample.add({A: [write]}, cut_at=cut_at))
        content[points[-1].id] = sample.content[A]
    return points, content


def test_a_copy_opens_on_another_machine_without_its_catalog(sample: SampleStore, tmp_path: Path) -> None:
    dummy, content = four_points(sample)
    there = copy(sample.root, tmp_path / "there")
    (there / "catalog.sqlite3").unlink()
    rebuilt(there, new_catalog(there))
    require_right(there, new_catalog(there), content, tmp_path)


def _merge_and_stop(wish: Path, root: Path, url: str, shares: bool) -> None:
    os.environ[faultpoints.VARIABLE] = str(wish)
    with open_catalog(url) as catalog:
        consolidate(root, catalog, shares=shares)


def _is_stopped(pid: int | None) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("point", MERGES)
def test_a_copy_taken_in_the_middle_of_a_merge(
    config: Config, sample: SampleStore, tmp_path: Path, point: str, shares: bool
) -> None:
    points, content = four_points(sample)
    drop_points(sample.catalog, Store(sample.root), [points[0].id, points[2].id], now=NOW)
    for dropped in (points[0], points[2]):
        del content[dropped.id]
    wish = tmp_path / "wish"
    wish.write_text(f"{point}#1 hang")
    child = FORK.Process(target=_merge_and_stop, args=(wish, sample.root, config.database_url, shares))
    child.start()
    try:
        while child.is_alive() and not _is_stopped(child.pid):
            time.sleep(0.02)
        stopped = child.is_alive()
        lost, whole = copy(sample.root, tmp_path / "lost"), copy(sample.root, tmp_path / "whole")
    finally:
        if child.is_alive() and child.pid:
            os.kill(child.pid, signal.SIGKILL)
        child.join()
    only_one_way = {"chain.appended", "chain.flipped"} if shares else {"chain.merged"}
    assert stopped or point in only_one_way

    for path in lost.glob("catalog.sqlite3*"):
        path.unlink()
    rebuilt(lost, new_catalog(lost))
    require_right(lost, new_catalog(lost), content, tmp_path)
    with open_catalog(new_catalog(lost)) as catalog:
        consolidate(lost, catalog, shares=shares)
    require_right(lost, new_catalog(lost), content, tmp_path)

    with open_catalog(f"sqlite:///{whole}/catalog.sqlite3") as catalog:
        recover(catalog, Store(whole), now=NOW)
    require_right(whole, f"sqlite:///{whole}/catalog.sqlite3", content, tmp_path)
