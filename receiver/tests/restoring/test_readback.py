# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written is hashed meanwhile, and what was hashed is looked up by the file's own tables."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from restores import DISK
from sample_store import SampleStore, Write

from livebackup_receiver import convert
from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.chain.image import OFFSET, open_image
from livebackup_receiver.convert import Format
from livebackup_receiver.restoring.follower import CHUNK_BYTES, Follower, following
from livebackup_receiver.restoring.readback import damage_read_back
from livebackup_receiver.store.digests import Table
from livebackup_receiver.store.qcow2 import CLUSTER_BYTES


@pytest.fixture
def tables(store: SampleStore) -> list[Table]:
    """Of a chain of two layers, of which the upper one masks a part of the lower one."""
    store.add({DISK: [Write(0, 40 * CLUSTER_BYTES, 1)]})
    store.add({DISK: [Write(8 * CLUSTER_BYTES, 4 * CLUSTER_BYTES, 2)]})
    return convert.tables_of(layers(store))


@pytest.fixture(params=list(Format))
def format(request: pytest.FixtureRequest) -> Format:
    chosen: Format = request.param
    return chosen


def layers(store: SampleStore) -> list[Path]:
    """Top first."""
    found = sorted((store.root / "vms" / DISK[0] / DISK[1]).glob("*.qcow2"))
    return found[::-1]


def written(store: SampleStore, directory: Path, format: Format) -> Path:
    path = directory / f"disk.{format}"
    convert.write(layers(store), path, format)
    return path


def place_of(path: Path, format: Format, cluster: int) -> int:
    """Where a cluster of the disk lies in a file."""
    if format is Format.RAW:
        return cluster * CLUSTER_BYTES
    with open_image(path) as image:
        tables = image.l2(np.array([0]))
        assert tables is not None
        return int(tables[0][cluster] & OFFSET)


def read_back(path: Path, descriptor: int) -> Follower:
    with following(descriptor) as follower:
        follower.reached(path.stat().st_size // 2)
        follower.finish(at_once)
    return follower


def test_clusters_are_found_by_their_places_and_holes_are_zeros(tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = {0: b"a", CHUNK_BYTES + CLUSTER_BYTES: b"b", 5 * CHUNK_BYTES: b"c"}
    with path.open("x+b", buffering=0) as file:
        for place, letter in content.items():
            os.pwrite(file.fileno(), letter * CLUSTER_BYTES, place)
        os.pwrite(file.fileno(), b"d" * 512, 6 * CHUNK_BYTES)
        os.truncate(file.fileno(), 1 << 40)
        follower = read_back(path, file.fileno())
    places = np.array(
        [5 * CHUNK_BYTES, 0, CHUNK_BYTES, CHUNK_BYTES + CLUSTER_BYTES, 6 * CHUNK_BYTES, 1 << 39]
    )
    last = b"d" * 512 + bytes(CLUSTER_BYTES - 512)
    expected = [b"c" * CLUSTER_BYTES, b"a" * CLUSTER_BYTES, None, b"b" * CLUSTER_BYTES, last, None]
    digests = [blake3(each).digest() if each else bytes(32) for each in expected]
    assert [row.tobytes() for row in follower.rows(places)] == digests


def test_what_is_right_is_not_read_again(
    store: SampleStore, tables: list[Table], tmp_path: Path, format: Format
) -> None:
    path = written(store, tmp_path, format)
    told: list[int] = []
    with path.open("r+b", buffering=0) as file:
        follower = read_back(path, file.fileno())
    assert damage_read_back(follower, path, format, tables, pace=told.append) == []
    assert sum(told) == 0


def test_a_wrong_cluster_is_named(
    store: SampleStore, tables: list[Table], tmp_path: Path, format: Format
) -> None:
    path = written(store, tmp_path, format)
    with path.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"!", place_of(path, format, 9) + 100)
        follower = read_back(path, file.fileno())
    found = damage_read_back(follower, path, format, tables, pace=at_once)
    assert found == [(9 * CLUSTER_BYTES, CLUSTER_BYTES)]


def test_a_cluster_that_is_missing_is_named(store: SampleStore, tables: list[Table], tmp_path: Path) -> None:
    path = written(store, tmp_path, Format.RAW)
    with path.open("r+b", buffering=0) as file:
        os.truncate(file.fileno(), 39 * CLUSTER_BYTES)
        os.truncate(file.fileno(), tables[-1].virtual_size)
        follower = read_back(path, file.fileno())
    found = damage_read_back(follower, path, Format.RAW, tables, pace=at_once)
    assert found == [(39 * CLUSTER_BYTES, CLUSTER_BYTES)]


def test_tables_that_lead_elsewhere_are_seen(store: SampleStore, tables: list[Table], tmp_path: Path) -> None:
    """All data are right where they lie, but two clusters of the disk are exchanged."""
    path = written(store, tmp_path, Format.QCOW2)
    with path.open("r+b", buffering=0) as file:
        follower = read_back(path, file.fileno())
        with open_image(path) as image:
            table = int(image.l1[0] & OFFSET)
        first, second = (os.pread(file.fileno(), 8, table + 8 * cluster) for cluster in (3, 8))
        os.pwrite(file.fileno(), second, table + 8 * 3)
        os.pwrite(file.fileno(), first, table + 8 * 8)
    found = damage_read_back(follower, path, Format.QCOW2, tables, pace=at_once)
    assert found == [(cluster * CLUSTER_BYTES, CLUSTER_BYTES) for cluster in (3, 8)]


def test_what_was_written_again_later_is_judged_by_what_is_there(
    store: SampleStore, tables: list[Table], tmp_path: Path, format: Format
) -> None:
    path = written(store, tmp_path, format)
    place = place_of(path, format, 2)
    with path.open("r+b", buffering=0) as file:
        right = os.pread(file.fileno(), 512, place)
        os.pwrite(file.fileno(), bytes(512), place)
        follower = read_back(path, file.fileno())
        os.pwrite(file.fileno(), right, place)
    assert damage_read_back(follower, path, format, tables, pace=at_once) == []
