# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run that was killed has left, and how the next one goes on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from restores import DISK, act, plan
from sample_store import DISK_SIZE, KIB, SampleStore, Write, read_image

from livebackup_receiver.convert import Format
from livebackup_receiver.errors import TargetExists, TargetInUse
from livebackup_receiver.model import Point
from livebackup_receiver.restore import DiskRestore, RestorePlan
from livebackup_receiver.restoring import partial, targets
from livebackup_receiver.restoring.act import look
from livebackup_receiver.restoring.manner import Manner
from livebackup_receiver.restoring.partial import FileFacts, PartialState, Start, decide, note, read_state
from livebackup_receiver.store import room

MIB = 1 << 20
LAYER = FileFacts(name="p1.qcow2", inode=5, size=100)
WANTED = PartialState(point="p1", vm="db", disk="vd-a", format=Format.QCOW2, layers=(LAYER,))
PARTIAL = FileFacts(name="vd-a.qcow2.partial", inode=7, size=4 * MIB)


def changed(**facts: Any) -> PartialState:
    return WANTED.model_copy(update={"watermark": MIB, **facts})


def test_a_run_goes_on_at_the_watermark() -> None:
    assert decide(changed(), WANTED, PARTIAL, None) == Start(MIB)


@pytest.mark.parametrize(
    "found",
    [
        None,
        changed(point="p2"),
        changed(format=Format.RAW),
        changed(layers=(LAYER.model_copy(update={"inode": 6}),)),
        changed(layers=(LAYER, LAYER)),
        changed(basis=LAYER),
        changed(watermark=5 * MIB),
    ],
    ids=["nothing", "point", "format", "replaced layer", "merged layers", "older copy", "a file too short"],
)
def test_what_is_not_of_the_same_file_is_begun_anew(found: PartialState | None) -> None:
    assert decide(found, WANTED, PARTIAL, None) == Start()


def test_without_the_file_nothing_can_be_gone_on_with() -> None:
    assert decide(changed(), WANTED, None, None) == Start()


def test_a_complete_file_may_have_its_name_already() -> None:
    complete = changed(complete=7)
    assert decide(complete, WANTED, PARTIAL, None) == Start(complete=True)
    assert decide(complete, WANTED, None, PARTIAL) == Start(complete=True, published=True)
    another = PARTIAL.model_copy(update={"inode": 8})
    assert decide(complete, WANTED, another, another) == Start()


def test_a_state_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    path = tmp_path / "state"
    assert read_state(path) is None
    for text in ("", "{", '{"format_version": 2}', "[]"):
        path.write_text(text)
        assert read_state(path) is None


@pytest.fixture
def point(store: SampleStore) -> Point:
    """Data in three layers."""
    store.add({DISK: [Write(0, 2 * MIB, 1)]})
    store.add({DISK: [Write(MIB, MIB, 2)]})
    return store.add({DISK: [Write(3 * MIB, 512 * KIB, 3), Write(0, 64 * KIB, 4)]})


@pytest.fixture(params=list(Format))
def planned(request: pytest.FixtureRequest, store: SampleStore, point: Point, tmp_path: Path) -> RestorePlan:
    return plan(store, point, tmp_path / "out", request.param)


def leave_partial(planned: RestorePlan, kept: int, content: bytes) -> None:
    """What a run leaves that is killed when so many bytes are on the disk."""
    (disk,) = planned.disks
    disk.partial.parent.mkdir(parents=True)
    disk.partial.write_bytes(content)
    wanted = look(disk, planned, Manner()).wanted
    note(disk, wanted.model_copy(update={"watermark": kept}))


async def whole_file(planned: RestorePlan) -> bytes:
    """The file as it becomes without being killed; nothing is left of it."""
    (disk,) = planned.disks
    bare = RestorePlan(planned.point, planned.format, planned.disks)
    await act(bare)
    content = disk.target.read_bytes()
    disk.target.unlink()
    disk.target.parent.rmdir()
    return content


@pytest.mark.parametrize("kept", [0, 64 * KIB, MIB, MIB + 12345, 2 * MIB])
async def test_a_killed_run_is_gone_on_with(
    store: SampleStore, planned: RestorePlan, tmp_path: Path, kept: int
) -> None:
    content = await whole_file(planned)
    leave_partial(planned, kept, content[:kept] + os.urandom(DISK_SIZE))
    (done,) = await act(planned)
    (disk,) = planned.disks
    assert read_image(disk.target, planned.format, tmp_path) == store.content[DISK]
    assert os.listdir(disk.target.parent) == [disk.target.name]
    assert (done.resumed_bytes > 0) == (kept >= (64 * KIB if planned.format is Format.RAW else MIB))
    assert done.resumed_bytes <= kept
    assert done.moved_bytes + done.resumed_bytes == 2 * MIB + 512 * KIB


async def test_a_partial_file_that_lies_does_no_harm(
    store: SampleStore, planned: RestorePlan, tmp_path: Path
) -> None:
    leave_partial(planned, 2 * MIB, os.urandom(3 * MIB))
    (done,) = await act(planned)
    (disk,) = planned.disks
    assert read_image(disk.target, planned.format, tmp_path) == store.content[DISK]
    assert done.resumed_bytes == 0


async def test_without_comparing_nothing_is_kept(
    store: SampleStore, planned: RestorePlan, tmp_path: Path
) -> None:
    leave_partial(planned, 2 * MIB, os.urandom(3 * MIB))
    (done,) = await act(planned, Manner(verify=False))
    assert read_image(planned.disks[0].target, planned.format, tmp_path) == store.content[DISK]
    assert done.resumed_bytes == 0


async def test_another_point_begins_anew(store: SampleStore, planned: RestorePlan, tmp_path: Path) -> None:
    leave_partial(planned, MIB, os.urandom(MIB))
    newer = store.add({DISK: [Write(0, KIB, 9)]})
    (done,) = await act(plan(store, newer, tmp_path / "out", planned.format))
    assert done.resumed_bytes == 0
    assert read_image(planned.disks[0].target, planned.format, tmp_path) == store.content[DISK]


async def test_what_is_kept_counts_as_room(planned: RestorePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    content = await whole_file(planned)
    leave_partial(planned, MIB, content[: 2 * MIB])
    monkeypatch.setattr(room, "free_bytes", lambda path: MIB)
    (done,) = await act(planned)
    assert done.resumed_bytes > 0


async def test_a_run_that_is_cancelled_keeps_what_it_has_done(
    store: SampleStore, planned: RestorePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial, "KEEP_BYTES", 64 * KIB)
    (disk,) = planned.disks
    reached = asyncio.Event()
    loop = asyncio.get_running_loop()
    told: list[int] = []

    class Telling(list[tuple[str, int, int]]):
        def append(self, item: tuple[str, int, int]) -> None:
            told.append(item[1])
            if item[0] == "writing" and item[1] >= MIB:
                loop.call_soon_threadsafe(reached.set)

    running = asyncio.create_task(act(planned, told=Telling()))
    await reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not disk.target.exists()
    if disk.partial.exists():
        assert read_state(disk.state) is not None
    await act(planned)
    assert read_image(disk.target, planned.format, tmp_path) == store.content[DISK]
    assert os.listdir(disk.target.parent) == [disk.target.name]


async def test_two_restores_do_not_write_the_same_file(planned: RestorePlan) -> None:
    (disk,) = planned.disks
    disk.partial.parent.mkdir(parents=True)
    with targets.partial_of(disk), pytest.raises(TargetInUse, match="partial is in use"):
        await act(planned)


@pytest.fixture
def two_disks(store: SampleStore, tmp_path: Path) -> RestorePlan:
    point = store.add({("db", "vd-a"): [Write(0, MIB, 1)], ("db", "vd-b"): [Write(0, MIB, 2)]})
    return plan(store, point, tmp_path / "out")


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("force", [False, True])
async def test_a_run_that_is_killed_between_two_names_is_finished(
    store: SampleStore, two_disks: RestorePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    def publish(disks: list[DiskRestore], *, replace: bool) -> None:
        real(disks[:1], replace=replace)
        raise Killed

    real = targets.publish
    monkeypatch.setattr(targets, "publish", publish)
    with pytest.raises(Killed):
        await act(two_disks, Manner(force=force))
    monkeypatch.undo()
    first, second = two_disks.disks
    assert first.target.exists()
    assert not second.target.exists()
    await act(two_disks, Manner(force=force))
    for disk in two_disks.disks:
        assert read_image(disk.target, "qcow2", tmp_path) == store.content[disk.vm, disk.disk]
    assert sorted(os.listdir(first.target.parent)) == ["vd-a.qcow2", "vd-b.qcow2"]
    with pytest.raises(TargetExists):
        await act(two_disks)
