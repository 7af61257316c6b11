# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores of real qcow2 chains into files."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from restores import DISK, act, plan
from sample_records import point as sample_point
from sample_records import point_vm
from sample_store import DISK_SIZE, KIB, SampleStore, Write, read_image, run

from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.consolidation.plan import Abilities
from livebackup_receiver.consolidation.worker import Consolidation
from livebackup_receiver.convert import Format
from livebackup_receiver.decisions import drop_points
from livebackup_receiver.errors import (
    DiskUnknown,
    LayerDamaged,
    OptionsUnclear,
    PointDamaged,
    TargetExists,
    TargetFull,
    TargetInUse,
    TargetUnwritable,
    VmUnknown,
)
from livebackup_receiver.model import Point
from livebackup_receiver.restore import Wish, on_newest_chain, select, select_disks
from livebackup_receiver.restoring.manner import Manner
from livebackup_receiver.restoring.targets import require_room
from livebackup_receiver.store.paths import Store


@pytest.fixture
def chain(store: SampleStore) -> list[Point]:
    """Three points of one disk; each overwrites a part of the one before."""
    return [
        store.add({DISK: [Write(0, 256 * KIB, 1)]}),
        store.add({DISK: [Write(64 * KIB, 64 * KIB, 2)]}),
        store.add({DISK: [Write(3 * 1024 * KIB, 64 * KIB, 3)]}),
    ]


@contextmanager
def opened_for_writing(path: Path, scratch: Path) -> Iterator[None]:
    """An image that a process has open, as a VM would."""
    pidfile = scratch / "pid"
    argv = ["qemu-storage-daemon", "--pidfile", str(pidfile), "--daemonize"]
    run(
        *argv,
        "--blockdev",
        f"file,node-name=file,filename={path}",
        "--blockdev",
        "qcow2,node-name=image,file=file",
        "--nbd-server",
        f"addr.type=unix,addr.path={scratch}/nbd.sock",
        "--export",
        "nbd,id=export,node-name=image,writable=on",
    )
    try:
        yield
    finally:
        subprocess.run(["kill", pidfile.read_text().strip()], check=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the files of VM db go when ``tmp_path`` is the target."""
    made = tmp_path / "db"
    made.mkdir()
    return made


@pytest.mark.parametrize("format", list(Format))
async def test_the_newest_point_has_the_newest_content(
    store: SampleStore, chain: list[Point], tmp_path: Path, format: Format
) -> None:
    await act(plan(store, chain[-1], tmp_path / "out", format))
    restored = tmp_path / f"out/db/vd-a.{format}"
    assert read_image(restored, format, tmp_path) == store.content[DISK]


async def test_an_older_point_has_its_own_content(
    store: SampleStore, chain: list[Point], tmp_path: Path
) -> None:
    await act(plan(store, chain[0], tmp_path / "out"))
    content = read_image(tmp_path / "out/db/vd-a.qcow2", "qcow2", tmp_path)
    assert content == b"\1" * 256 * KIB + bytes(DISK_SIZE - 256 * KIB)


async def test_a_restored_file_needs_no_other_file(
    store: SampleStore, chain: list[Point], tmp_path: Path
) -> None:
    await act(plan(store, chain[-1], tmp_path / "out"))
    shutil.rmtree(store.root / "vms")
    assert read_image(tmp_path / "out/db/vd-a.qcow2", "qcow2", tmp_path) == store.content[DISK]


async def test_nothing_else_is_left_in_the_directory(
    store: SampleStore, chain: list[Point], tmp_path: Path
) -> None:
    await act(plan(store, chain[-1], tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out/db").iterdir()] == ["vd-a.qcow2"]


async def test_progress_ends_at_the_whole(store: SampleStore, chain: list[Point], tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    await act(plan(store, chain[-1], tmp_path / "out"), told=told)
    stage, done, total = told[-1]
    assert stage == "verifying"
    assert done == total > 0
    assert ("writing", total, total) in told


async def test_an_existing_file_is_not_touched(
    store: SampleStore, chain: list[Point], tmp_path: Path, folder: Path
) -> None:
    target = folder / "vd-a.qcow2"
    target.write_bytes(b"precious")
    with pytest.raises(TargetExists, match="already exists; restore into another directory"):
        await act(plan(store, chain[-1], tmp_path))
    assert target.read_bytes() == b"precious"


async def test_an_existing_file_is_replaced_when_asked(
    store: SampleStore, chain: list[Point], tmp_path: Path, folder: Path
) -> None:
    target = folder / "vd-a.qcow2"
    target.write_bytes(b"old")
    await act(plan(store, chain[-1], tmp_path), Manner(force=True))
    assert read_image(target, "qcow2", tmp_path) == store.content[DISK]


async def test_a_replaced_file_stays_its_owner_s(
    store: SampleStore, chain: list[Point], tmp_path: Path, folder: Path
) -> None:
    target = folder / "vd-a.qcow2"
    target.write_bytes(b"old")
    target.chmod(0o640)
    os.chown(target, 64055, 994)
    await act(plan(store, chain[-1], tmp_path), Manner(force=True))
    found = target.stat()
    assert (found.st_mode & 0o777, found.st_uid, found.st_gid) == (0o640, 64055, 994)


async def test_a_file_in_use_is_not_replaced_even_when_asked(
    store: SampleStore, chain: list[Point], tmp_path: Path, folder: Path
) -> None:
    target = folder / "vd-a.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", str(target), "1M")
    with opened_for_writing(target, tmp_path), pytest.raises(TargetInUse, match="in use"):
        await act(plan(store, chain[-1], tmp_path), Manner(force=True))


async def test_the_base_of_an_image_in_use_is_not_replaced(
    store: SampleStore, chain: list[Point], tmp_path: Path, folder: Path
) -> None:
    base, top = folder / "vd-a.qcow2", folder / "top.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", str(base), "1M")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base.name, "-F", "qcow2", str(top))
    with opened_for_writing(top, tmp_path), pytest.raises(TargetInUse):
        await act(plan(store, chain[-1], tmp_path), Manner(force=True))


async def test_a_missing_layer_is_named_and_nothing_is_written(
    store: SampleStore, chain: list[Point], tmp_path: Path
) -> None:
    store.layer(chain[0]).unlink()
    with pytest.raises(LayerDamaged, match=f"{chain[0].id}.qcow2 is damaged: it is missing"):
        await act(plan(store, chain[-1], tmp_path / "out"))
    assert not (tmp_path / "out").exists()


async def test_one_changed_byte_is_found(store: SampleStore, chain: list[Point], tmp_path: Path) -> None:
    layer = store.layer(chain[1])
    content = bytearray(layer.read_bytes())
    content[-1] ^= 1
    layer.write_bytes(content)
    with pytest.raises(
        PointDamaged, match=r"disk vd-a of VM db is damaged at point .*, bytes 65536 to 131072"
    ):
        await act(plan(store, chain[-1], tmp_path / "out"))
    assert not (tmp_path / "out").exists()


async def test_a_failing_disk_leaves_no_file_of_the_others(
    store: SampleStore, tmp_path: Path, folder: Path
) -> None:
    point = store.add({DISK: [Write(0, KIB, 1)], ("db", "vd-b"): [Write(0, KIB, 2)]})
    with store.layer(point, disk="vd-b").open("r+b") as file:
        file.truncate(4 * 64 * KIB)
    with pytest.raises(LayerDamaged, match=r"db/vd-b/.*\.qcow2 is damaged"):
        await act(plan(store, point, tmp_path))
    assert os.listdir(folder) == []


async def test_a_directory_that_cannot_be_made(
    store: SampleStore, chain: list[Point], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TargetUnwritable, match="name a directory"):
        await act(plan(store, chain[-1], tmp_path / "file" / "below"))


async def test_a_target_that_becomes_full_is_named(
    store: SampleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = store.add({DISK: [Write(0, 3 << 20, 1)]})
    small = tmp_path / "small"
    small.mkdir()
    monkeypatch.setattr("livebackup_receiver.restoring.targets.require_room", lambda needs: None)
    run("mount", "-t", "tmpfs", "-o", "size=2m", "small", str(small))
    try:
        with pytest.raises(TargetFull, match=f"needs 3,145,728 bytes in {small}/out/db, which has"):
            await act(plan(store, point, small / "out"))
        left = os.listdir(small)
    finally:
        run("umount", str(small))
    assert left == []


def test_a_restore_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetFull, match="free space there"):
        require_room({tmp_path: 1 << 60})


def test_disks_are_selected_by_name_and_in_the_order_asked() -> None:
    point = sample_point()
    assert [disk.disk for disk in select_disks(point, "db", None)] == ["vd-a"]
    assert [disk.disk for disk in select_disks(point, "db", ["vd-a", "vd-a"])] == ["vd-a"]


def of_two_vms() -> Point:
    point = sample_point()
    return point.model_copy(update={"vms": [point_vm(vm, point.id) for vm in ("db", "web")]})


def test_a_group_is_restored_whole_if_no_vm_is_named() -> None:
    point = of_two_vms()
    assert select(point, Wish()) == [("db", "vd-a"), ("web", "vd-a")]
    assert select(point, Wish(vms=["web", "web"])) == [("web", "vd-a")]


@pytest.mark.parametrize("wish", [Wish(name="copy"), Wish(disks=["vd-a"])])
def test_what_is_of_one_vm_cannot_be_wanted_of_two(wish: Wish) -> None:
    with pytest.raises(
        OptionsUnclear, match="is for one VM, and 2 are to be restored: db, web; name the one"
    ):
        select(of_two_vms(), wish)


def test_an_unknown_vm_or_disk_is_named() -> None:
    point = sample_point()
    with pytest.raises(VmUnknown, match=f"VM web is not in point {point.id}; name one of db$"):
        select_disks(point, "web", None)
    with pytest.raises(
        DiskUnknown, match=f"disk vd-z of VM db is not in point {point.id}; name one of vd-a$"
    ):
        select_disks(point, "db", ["vd-z"])


async def test_layers_that_are_merged_just_before_they_are_read_are_looked_up_again(
    store: SampleStore, chain: list[Point], tmp_path: Path
) -> None:
    stale = plan(store, chain[-1], tmp_path / "out")
    drop_points(store.catalog, Store(store.root), [chain[1].id], now=datetime.now(UTC))
    work = Consolidation(Store(store.root), store.catalog, Abilities(True, True), max_depth=2)
    for disk in work.waiting():
        work.consolidate(disk, at_once)
    plans = iter([stale, plan(store, chain[-1], tmp_path / "out")])
    await on_newest_chain(lambda: next(plans), act)
    assert read_image(tmp_path / "out/db/vd-a.qcow2", "qcow2", tmp_path) == store.content[DISK]


async def test_a_layer_that_is_really_missing_is_named_after_all(
    store: SampleStore, chain: list[Point], tmp_path: Path
) -> None:
    store.layer(chain[1]).unlink()
    with pytest.raises(LayerDamaged, match=f"{chain[1].id}.qcow2 is damaged: it is missing"):
        await on_newest_chain(lambda: plan(store, chain[-1], tmp_path / "out"), act)
