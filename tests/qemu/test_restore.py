# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""restore: from a real receiver to files, over NBD with TLS."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import backups
import pytest
from machine import MIB, Machine
from modules import run, succeed
from receiving import ReceiverProcess


@dataclass
class Stage:
    """A committed point, its truth, and where to restore to."""

    vm: Machine
    receiver: ReceiverProcess
    points: list[str]
    truth: Path
    dest: Path

    def arguments(self, **options: Any) -> dict[str, Any]:
        common = {"point": self.points[-1], "vm": self.vm.name, "dest": str(self.dest)}
        return {**self.receiver.options("restore"), **common, **options}

    def restore(self, **options: Any) -> dict[str, Any]:
        return succeed("restore", **self.arguments(**options))

    def refuse(self, **options: Any) -> dict[str, Any]:
        result = run("restore", **self.arguments(**options))
        assert result.get("failed"), result
        return result

    def files(self) -> list[str]:
        return sorted(path.name for path in self.dest.iterdir())


@pytest.fixture
def stage(small_vm: Machine, receiver: ReceiverProcess, tmp_path: Path) -> Stage:
    backups.track(small_vm)
    points = []
    for pattern in (1, 2):
        small_vm.write("a", pattern=pattern, offset=pattern * MIB, count=2 * MIB)
        points.append(backups.back_up(small_vm, receiver)["point"])
    dest = tmp_path / "restored"
    dest.mkdir()
    return Stage(small_vm, receiver, points, small_vm.path("a"), dest)


def is_complete(image: Path) -> bool:
    described = subprocess.run(["qemu-img", "info", image], capture_output=True, text=True, check=True)
    return "backing file" not in described.stdout


def comparable(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The files of a result without what only a run can know."""
    return [
        {name: value for name, value in file.items() if not name.endswith("_bytes")}
        for file in result["files"]
    ]


@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_restored_files_hold_the_disks_and_stay_if_nothing_changed(stage: Stage, image_format: str) -> None:
    foreseen = stage.restore(format=image_format, check=True)
    assert foreseen["changed"]
    assert stage.files() == []
    done = stage.restore(format=image_format)
    path = stage.dest / f"vd-a.{image_format}"
    assert comparable(done) == comparable(foreseen)
    (file,) = done["files"]
    assert (file["fetched_bytes"], file["kept_bytes"], file["resumed_bytes"]) == (3 * MIB, 0, 0)
    assert file["tracking"] == ("bitmap" if image_format == "qcow2" else "none")
    assert done["diff"] == foreseen["diff"]
    assert done["files"][0]["path"] == str(path)
    backups.assert_same(path, stage.truth)
    assert is_complete(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert stage.files() == [path.name, f"{path.name}.livebackup.json"]
    for check in (False, True):
        assert not stage.restore(format=image_format, check=check)["changed"]


def test_another_point_needs_force(stage: Stage) -> None:
    stage.restore(point=stage.points[0])
    before = (stage.dest / "vd-a.qcow2").read_bytes()
    refused = stage.refuse()
    assert refused["error"]["code"] == "file-exists"
    assert "set force to true to replace it" in refused["msg"]
    assert (stage.dest / "vd-a.qcow2").read_bytes() == before
    (stage.dest / "vd-a.qcow2").chmod(0o640)
    os.setxattr(stage.dest / "vd-a.qcow2", "trusted.note", b"kept")
    assert stage.restore(force=True)["changed"]
    backups.assert_same(stage.dest / "vd-a.qcow2", stage.truth)
    assert (stage.dest / "vd-a.qcow2").stat().st_mode & 0o777 == 0o640
    assert os.getxattr(stage.dest / "vd-a.qcow2", "trusted.note") == b"kept"
    assert not stage.restore(force=True)["changed"]


def test_a_file_written_to_is_another_file(stage: Stage) -> None:
    stage.restore()
    subprocess.run(
        ["qemu-io", "-c", "write -P 9 0 64k", stage.dest / "vd-a.qcow2"], check=True, capture_output=True
    )
    assert stage.refuse()["error"]["code"] == "file-exists"
    stage.restore(force=True)
    backups.assert_same(stage.dest / "vd-a.qcow2", stage.truth)


def test_a_disk_in_use_is_never_replaced(stage: Stage) -> None:
    in_use = stage.vm.path("a")
    (stage.dest / "vd-a.qcow2").hardlink_to(in_use)
    for force in (False, True):
        refused = stage.refuse(force=force)
        assert refused["error"]["code"] == "file-in-use"
        assert "not even with force" in refused["msg"]
    assert (stage.dest / "vd-a.qcow2").samefile(in_use)
    assert stage.files() == ["vd-a.qcow2"]


def test_a_file_system_that_is_too_small(stage: Stage, tmp_path: Path) -> None:
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tiny], check=True)
    try:
        refused = stage.refuse(dest=str(tiny))
        assert refused["error"]["code"] == "space-short"
        assert refused["error"]["needed_bytes"] > refused["error"]["free_bytes"]
        assert list(tiny.iterdir()) == []
    finally:
        subprocess.run(["umount", tiny], check=True)


def test_what_does_not_exist(stage: Stage) -> None:
    assert "create it first" in stage.refuse(dest=str(stage.dest / "none"))["msg"]
    assert "holds no disk vd-x of VM" in stage.refuse(disks=["vd-x"])["msg"]
    assert stage.refuse(vm="mail")["error"]["code"] == "vm-unknown"
    assert stage.refuse(point="01JD50BR1C8Q2W3E4R5T6Y7V8A")["error"]["code"] == "point-unknown"


def test_what_is_right_in_an_older_copy_is_not_moved(stage: Stage) -> None:
    stage.restore(point=stage.points[0])
    done = stage.restore(force=True, delta=True)
    (file,) = done["files"]
    # the second backup wrote 2 MiB from the second on, and the first MiB of the first is still right
    assert (file["fetched_bytes"], file["kept_bytes"]) == (2 * MIB, MIB)
    backups.assert_same(stage.dest / "vd-a.qcow2", stage.truth)
    # and back, over a file that was written to
    subprocess.run(
        ["qemu-io", "-c", "write -P 9 8M 64k", stage.dest / "vd-a.qcow2"], check=True, capture_output=True
    )
    stage.restore(point=stage.points[0], force=True, delta=True)
    backups.assert_same(
        stage.dest / "vd-a.qcow2", stage.receiver.layer(stage.vm.name, "vd-a", stage.points[0])
    )


def test_an_older_raw_copy_of_another_size_is_used_as_far_as_it_goes(stage: Stage) -> None:
    stage.restore(format="raw")
    path = stage.dest / "vd-a.raw"
    with path.open("r+b") as file:
        file.truncate(3 * MIB)
    (done,) = stage.restore(format="raw", force=True, delta=True)["files"]
    assert (done["fetched_bytes"], done["kept_bytes"]) == (MIB, 2 * MIB)
    backups.assert_same(path, stage.truth)


def test_an_older_copy_of_another_format(stage: Stage) -> None:
    stage.restore(format="raw")
    raw = (stage.dest / "vd-a.raw").rename(stage.dest / "vd-a.qcow2")
    before = raw.read_bytes()
    refused = stage.refuse(force=True, delta=True)
    assert refused["error"]["code"] == "format-other"
    assert f"The file {raw} is raw, and with delta it must be qcow2" in refused["msg"]
    assert raw.read_bytes() == before


def test_a_path_of_its_own_for_each_disk(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "disk0.qcow2"
    path.parent.mkdir()
    done = stage.restore(dest=None, paths={"vd-a": str(path)}, track=False)
    assert [(file["path"], file["tracking"]) for file in done["files"]] == [(str(path), "none")]
    backups.assert_same(path, stage.truth)
    assert "livebackup:" not in info(path)
    assert not stage.restore(dest=None, paths={"vd-a": str(path)}, track=False)["changed"]
    # with tracking it is another file
    assert stage.restore(dest=None, paths={"vd-a": str(path)}, force=True, delta=True)["changed"]
    assert f"name: livebackup:{stage.points[-1]}\n" in info(path)


def info(image: Path) -> str:
    return subprocess.run(["qemu-img", "info", image], capture_output=True, text=True, check=True).stdout


def test_a_link_to_the_file_is_followed(stage: Stage, tmp_path: Path) -> None:
    link = tmp_path / "link.qcow2"
    link.symlink_to(stage.dest / "real.qcow2")
    stage.restore(dest=None, paths={"vd-a": str(link)})
    assert link.is_symlink()
    backups.assert_same(stage.dest / "real.qcow2", stage.truth)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dest": None}, "Nothing says where disk vd-a is to be restored to; set dest"),
        ({"paths": {"vd-x": "/tmp/x"}}, "holds no disk vd-x of VM"),
        ({"dest": None, "paths": {"vd-a": "/none/x.qcow2"}}, "The directory /none does not exist"),
        ({"dest": None, "paths": {"vd-a": "/dev/null"}, "force": True}, "/dev/null is no file"),
        ({"stall_limit": 0.0}, "stall_limit 0 is no time to wait"),
    ],
)
def test_places_that_cannot_be(stage: Stage, options: dict[str, Any], words: str) -> None:
    assert words in stage.refuse(**options)["msg"]
    assert stage.files() == []


def test_a_point_that_was_dropped(stage: Stage) -> None:
    done = stage.receiver.command("retention", "drop", stage.points[0])
    assert done.returncode == 0, done.stderr
    refused = stage.refuse(point=stage.points[0])
    assert refused["error"]["code"] == "point-unknown"
    assert stage.points[0] in refused["msg"]
    assert stage.files() == []


def test_damage_that_nobody_knew_of_is_found(stage: Stage) -> None:
    layer = stage.receiver.layer(stage.vm.name, "vd-a", stage.points[1])
    content = layer.read_bytes()
    place = content.index(b"\2" * 65536) + 65536 * 5
    with layer.open("r+b") as file:
        file.seek(place)
        file.write(b"\7")
    refused = stage.refuse()
    assert refused["error"]["code"] == "point-damaged"
    found = re.search(
        rf"disk vd-a of VM {stage.vm.name} is damaged at point {stage.points[1]}, bytes (\d+) to (\d+); "
        rf"take point {stage.points[0]}, where it is not",
        refused["msg"],
    )
    assert found, refused["msg"]
    start, end = map(int, found.groups())
    assert (start % 65536, end - start) == (0, 65536)
    assert stage.files() == [".vd-a.qcow2.livebackup-partial"]
    layer.write_bytes(content)
    stage.restore()
    backups.assert_same(stage.dest / "vd-a.qcow2", stage.truth)


def test_no_export_is_left(stage: Stage) -> None:
    before = stage.receiver.daemons()
    stage.restore()
    assert stage.receiver.daemons() == before
