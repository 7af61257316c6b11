# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page that restores without our software is tried out on copies of stores, by a script without it."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from encrypted_layers import KEY, RING
from sample_store import DISK_SIZE, KIB, SampleStore, Write, read_image

from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.chain.keyring import using
from livebackup_receiver.consolidation.plan import Abilities
from livebackup_receiver.consolidation.worker import Consolidation
from livebackup_receiver.decisions import drop_points, pin_point
from livebackup_receiver.model import Point
from livebackup_receiver.store.paths import Store

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/docsite/rst/without-livebackup.rst"
CLUSTER = 64 * KIB
DB, LOG, WEB = ("db", "vd-a"), ("db", "vd-b"), ("web", "vd-a")


def copy_of(store: SampleStore, tmp_path: Path) -> Path:
    """What somebody has left of a store: no catalog."""
    copy = tmp_path / "copy of the store"
    copy.mkdir()
    for part in ("vms", "points"):
        if (store.root / part).exists():
            shutil.copytree(store.root / part, copy / part)
    return copy


def run_page(copy: Path, vm: str, to: Path, *, page: Path = PAGE, key: Path | None = None) -> str:
    """The newest point, which is restored then."""
    argv = ["bash", str(ROOT / "tests/without/page.sh"), str(page), str(copy), vm, "vd-a", str(to)]
    done = subprocess.run(
        argv + ([str(key)] if key else []), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def points(store: SampleStore) -> list[Point]:
    """Of two VMs; the second overwrites and zeros."""
    return [
        store.add({DB: [Write(0, 5 * CLUSTER, 1)], LOG: [Write(0, KIB, 2)], WEB: [Write(0, KIB, 3)]}),
        store.add(
            {DB: [Write(CLUSTER, 2 * CLUSTER, 0)], LOG: [Write(4096, KIB, 4)], WEB: [Write(0, KIB, 5)]}
        ),
        store.add({DB: [Write(40 * CLUSTER + 512, 1024, 6)], LOG: [], WEB: []}),
    ]


def test_the_newest_point_of_a_vm(store: SampleStore, points: list[Point], tmp_path: Path) -> None:
    copy = copy_of(store, tmp_path)
    assert run_page(copy, "db", tmp_path / "out") == points[2].id
    for vm, disk in (DB, LOG):
        assert read_image(tmp_path / f"out/{vm}/{disk}.qcow2", "qcow2", tmp_path) == store.content[vm, disk]
    assert not (tmp_path / "out/web").exists()
    run_page(copy, "web", tmp_path / "out")
    assert read_image(tmp_path / "out/web/vd-a.qcow2", "qcow2", tmp_path) == store.content[WEB]


def test_a_dropped_point_is_left_out_and_a_pinned_one_is_not(
    store: SampleStore, points: list[Point], tmp_path: Path
) -> None:
    pin_point(store.catalog, Store(store.root), points[1].id, reason="audit", until=None)
    drop_points(store.catalog, Store(store.root), [points[2].id], now=datetime.now(UTC))
    assert run_page(copy_of(store, tmp_path), "db", tmp_path / "out") == points[1].id
    found = read_image(tmp_path / "out/db/vd-a.qcow2", "qcow2", tmp_path)
    content = bytes([1]) * CLUSTER + bytes(2 * CLUSTER) + bytes([1]) * 2 * CLUSTER
    assert found == content.ljust(DISK_SIZE, b"\0")


def test_after_merges(store: SampleStore, points: list[Point], tmp_path: Path) -> None:
    drop_points(store.catalog, Store(store.root), [points[0].id, points[1].id], now=datetime.now(UTC))
    work = Consolidation(Store(store.root), store.catalog, Abilities(True, True), max_depth=1)
    for disk in work.waiting():
        work.consolidate(disk, at_once)
    assert run_page(copy_of(store, tmp_path), "db", tmp_path / "out") == points[2].id
    assert read_image(tmp_path / "out/db/vd-a.qcow2", "qcow2", tmp_path) == store.content[DB]


@pytest.mark.parametrize("first", [False, True])
def test_an_encrypted_chain(store: SampleStore, tmp_path: Path, first: bool) -> None:
    with using(RING):
        store.locked = first
        store.add({DB: [Write(0, 5 * CLUSTER, 1)]})
        store.locked = True
        newest = store.add({DB: [Write(CLUSTER, 2 * CLUSTER, 2)]})
    key = tmp_path / "key"
    key.write_bytes(KEY)
    assert run_page(copy_of(store, tmp_path), "db", tmp_path / "out", key=key) == newest.id
    assert read_image(tmp_path / "out/db/vd-a.qcow2", "qcow2", tmp_path) == store.content[DB]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('"dropped_at": "', '"dropped": "'),
        ("ls -r *.json", "ls *.json"),
        ('convert -f qcow2 -O qcow2 "$layer"', 'convert -f raw -O qcow2 "$layer"'),
        ("compare -f qcow2 -F qcow2", "compare -f raw -F raw"),
        ("qemu-img check", "livebackup-receiver check"),
        (":caption: chain.sh", ":caption: chains.sh"),
    ],
)
def test_a_page_that_is_wrong_is_found_out(
    store: SampleStore, points: list[Point], tmp_path: Path, right: str, wrong: str
) -> None:
    drop_points(store.catalog, Store(store.root), [points[2].id], now=datetime.now(UTC))
    page = tmp_path / "page.rst"
    text = PAGE.read_text()
    assert right in text
    page.write_text(text.replace(right, wrong))
    copy = copy_of(store, tmp_path)
    assert run_page(copy, "db", tmp_path / "right") == points[1].id
    with pytest.raises(AssertionError):
        assert run_page(copy, "db", tmp_path / "out", page=page) == points[1].id
