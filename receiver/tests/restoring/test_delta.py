# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores onto older copies: what is the same is taken from them, and nothing else."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from encrypted_layers import RING
from restores import DISK, act, plan
from sample_store import DISK_SIZE, KIB, SampleStore, Write, read_image, run

from livebackup_receiver.chain.keyring import using
from livebackup_receiver.convert import Format
from livebackup_receiver.errors import TargetInUse
from livebackup_receiver.model import Point
from livebackup_receiver.restoring.manner import Manner
from livebackup_receiver.store.digests import digests_of_places

CLUSTER = 64 * KIB
DELTA = Manner(delta=True)


@pytest.fixture(params=list(Format))
def format(request: pytest.FixtureRequest) -> Format:
    chosen: Format = request.param
    return chosen


@pytest.fixture
def points(store: SampleStore) -> list[Point]:
    """The second overwrites some, zeros some and adds some."""
    return [
        store.add({DISK: [Write(0, 16 * CLUSTER, 1), Write(40 * CLUSTER, CLUSTER, 2)]}),
        store.add(
            {
                DISK: [
                    Write(2 * CLUSTER + 512, 512, 3),
                    Write(8 * CLUSTER, 2 * CLUSTER, 0, "write -q -z"),
                    Write(50 * CLUSTER, CLUSTER, 4),
                ]
            }
        ),
    ]


async def test_what_is_the_same_is_not_read_from_the_store(
    store: SampleStore, points: list[Point], tmp_path: Path, format: Format
) -> None:
    await act(plan(store, points[0], tmp_path, format))
    (done,) = await act(plan(store, points[1], tmp_path, format), DELTA)
    assert read_image(done.disk.target, format, tmp_path) == store.content[DISK]
    assert (done.moved_bytes, done.taken_bytes) == (2 * CLUSTER, 14 * CLUSTER)


async def test_back_to_an_older_point(
    store: SampleStore, points: list[Point], tmp_path: Path, format: Format
) -> None:
    await act(plan(store, points[1], tmp_path, format))
    (done,) = await act(plan(store, points[0], tmp_path, format), DELTA)
    content = bytes([1]) * 16 * CLUSTER + bytes(24 * CLUSTER) + bytes([2]) * CLUSTER
    assert read_image(done.disk.target, format, tmp_path) == content.ljust(DISK_SIZE, b"\0")
    assert (done.moved_bytes, done.taken_bytes) == (3 * CLUSTER, 14 * CLUSTER)


async def test_a_copy_that_a_guest_went_on_with_loses_what_it_wrote(
    store: SampleStore, points: list[Point], tmp_path: Path, format: Format
) -> None:
    (first,) = await act(plan(store, points[1], tmp_path, format))
    written = ["-c", "write -q -P 9 3M 100k", "-c", "write -q -P 9 64k 1k", "-c", "discard 640k 64k"]
    run("qemu-io", "-f", format, *written, str(first.disk.target))
    (done,) = await act(plan(store, points[1], tmp_path, format), DELTA)
    assert read_image(done.disk.target, format, tmp_path) == store.content[DISK]
    assert done.taken_bytes > 0


async def test_the_copy_is_replaced_by_another_file_and_stays_as_it_was(
    store: SampleStore, points: list[Point], tmp_path: Path, format: Format
) -> None:
    (first,) = await act(plan(store, points[0], tmp_path, format))
    before = first.disk.target.read_bytes()
    os.link(first.disk.target, tmp_path / "old")
    await act(plan(store, points[1], tmp_path, format), DELTA)
    assert (tmp_path / "old").read_bytes() == before


async def test_without_a_copy_all_is_moved(
    store: SampleStore, points: list[Point], tmp_path: Path, format: Format
) -> None:
    (done,) = await act(plan(store, points[1], tmp_path, format), DELTA)
    assert (done.moved_bytes, done.taken_bytes) == (16 * CLUSTER, 0)


def wait_gone(pid: str) -> None:
    while Path("/proc", pid).exists():
        time.sleep(0.02)


async def test_a_copy_in_use_is_refused(store: SampleStore, points: list[Point], tmp_path: Path) -> None:
    (first,) = await act(plan(store, points[0], tmp_path))
    pidfile, image = tmp_path / "pid", first.disk.target
    drive = f"driver=qcow2,node-name=disk,file.driver=file,file.filename={image}"
    export = "nbd,id=e,node-name=disk,writable=on"
    run(
        "qemu-storage-daemon", "--daemonize", "--pidfile", str(pidfile), "--blockdev", drive,
        "--nbd-server", f"addr.type=unix,addr.path={tmp_path}/nbd", "--export", export,
    )  # fmt: skip
    try:
        with pytest.raises(TargetInUse):
            await act(plan(store, points[1], tmp_path), DELTA)
    finally:
        pid = pidfile.read_text().strip()
        run("kill", pid)
        await asyncio.to_thread(wait_gone, pid)
    content = bytes([1]) * 16 * CLUSTER + bytes(24 * CLUSTER) + bytes([2]) * CLUSTER
    assert read_image(image, "qcow2", tmp_path) == content.ljust(DISK_SIZE, b"\0")
    assert os.listdir(image.parent) == [image.name]


async def test_a_chain_that_is_encrypted(store: SampleStore, tmp_path: Path, format: Format) -> None:
    with using(RING):
        store.locked = True
        first = store.add({DISK: [Write(0, 4 * CLUSTER, 1)]})
        second = store.add({DISK: [Write(CLUSTER, CLUSTER, 2)]})
        await act(plan(store, first, tmp_path, format))
        (done,) = await act(plan(store, second, tmp_path, format), DELTA)
    assert read_image(done.disk.target, format, tmp_path) == store.content[DISK]
    assert (done.moved_bytes, done.taken_bytes) == (CLUSTER, 3 * CLUSTER)


async def test_an_odd_size(store: SampleStore, tmp_path: Path, format: Format) -> None:
    size = 5 * CLUSTER + 1536
    first = store.add({DISK: [Write(0, size, 1)]}, sizes={DISK: size})
    second = store.add({DISK: [Write(CLUSTER, CLUSTER, 2)]})
    await act(plan(store, first, tmp_path, format))
    (done,) = await act(plan(store, second, tmp_path, format), DELTA)
    assert read_image(done.disk.target, format, tmp_path) == store.content[DISK][:size]
    assert done.moved_bytes == CLUSTER


async def test_a_copy_that_changes_while_it_is_read_makes_no_wrong_file(
    store: SampleStore, points: list[Point], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = await act(plan(store, points[0], tmp_path, Format.RAW))
    real = digests_of_places

    def then_changed(*arguments: object) -> bytes:
        found = real(*arguments)  # type: ignore[arg-type]
        with first.disk.target.open("r+b") as file:
            file.write(b"changed")
        return found

    monkeypatch.setattr("livebackup_receiver.restoring.delta.digests_of_places", then_changed)
    (done,) = await act(plan(store, points[1], tmp_path, Format.RAW), DELTA)
    assert read_image(done.disk.target, "raw", tmp_path) == store.content[DISK]
    assert done.taken_bytes == 0
