# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store becomes read-only, or is gone for a while, under a running receiver; mounting takes root."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from file_systems import small_file_system
from sample_store import KIB, SampleStore, Write, read_image
from serving import Served, serving
from tls_files import TlsFiles

from livebackup_receiver.catalog.points import list_points
from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.config import Config
from livebackup_receiver.consolidation.worker import Consolidation
from livebackup_receiver.daemon import open_receiver
from livebackup_receiver.errors import StoreFailed
from livebackup_receiver.model import Point, Role

DB = ("db", "vd-a")


@pytest.fixture
def config(config: Config, tmp_path: Path) -> Config:
    """The catalog is elsewhere, so that it outlives its store."""
    return config.model_copy(update={"catalog_url": f"sqlite:///{tmp_path}/catalog.sqlite3"})


@pytest.fixture
async def server(config: Config, tls: TlsFiles) -> AsyncIterator[Served]:
    async with open_receiver(config) as receiver, serving(receiver, tls) as served:
        yield served


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """As a file system is after an error of its disk."""
    subprocess.run(["mount", "--bind", str(path), str(path)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(path)], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def three_points(served: Served) -> list[Point]:
    sample = SampleStore(served.receiver.store.root, served.receiver.catalog)
    return [sample.add({DB: [Write(number * 64 * KIB, 128 * KIB, number + 1)]}) for number in range(3)]


def kept(served: Served) -> list[str]:
    with served.receiver.catalog.read() as db:
        return [point.id for point in list_points(db)]


async def test_in_a_read_only_store_nothing_is_dropped_and_everything_is_readable(
    server: Served, tmp_path: Path
) -> None:
    points = three_points(server)
    layer = server.receiver.store.disk(*DB).layer(points[2].id)
    before = read_image(layer, "qcow2", tmp_path)
    async with server.client(Role.MANAGE) as client:
        with read_only(server.receiver.store.root):
            answer = await client.delete(f"/api/v1/points/{points[1].id}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (500, "store-failed")
            assert "Read-only file system" in answer.json()["error"]["message"]
            assert read_image(layer, "qcow2", tmp_path) == before
        assert len(kept(server)) == 3
        assert (await client.delete(f"/api/v1/points/{points[1].id}")).status_code == 204
    assert kept(server) == [points[2].id, points[0].id]


async def test_a_store_that_is_gone_takes_no_session_and_loses_no_point(
    server: Served, tmp_path: Path
) -> None:
    points = three_points(server)
    opening = {"group": "nightly", "hosts": ["hv1"]}
    async with server.client(Role.BACKUP) as client:
        # something empty is where the store was
        with small_file_system(server.receiver.store.root, "8m"):
            answer = await client.post("/api/v1/sessions", json=opening)
            assert (answer.status_code, answer.json()["error"]["code"]) == (500, "store-failed")
            assert "is not there any more; is its file system mounted?" in answer.json()["error"]["message"]
            work = Consolidation(server.receiver.store, server.receiver.catalog, None, max_depth=1)
            assert work.waiting() == []
        assert (await client.post("/api/v1/sessions", json=opening)).status_code == 201
    assert len(kept(server)) == len(points)
    work = Consolidation(server.receiver.store, server.receiver.catalog, None, max_depth=50)
    for disk in work.waiting():
        work.consolidate(disk, at_once)


async def test_a_receiver_does_not_start_over_a_store_that_is_not_mounted(config: Config) -> None:
    async with open_receiver(config) as receiver:
        SampleStore(receiver.store.root, receiver.catalog).add({DB: [Write(0, KIB, 1)]})
    with (
        small_file_system(config.store, "8m"),
        pytest.raises(StoreFailed, match="is its file system mounted"),
    ):
        async with open_receiver(config):
            pass
    async with open_receiver(config):
        pass
