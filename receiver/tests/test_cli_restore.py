# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`livebackup-receiver restore` as a subprocess, on a real store."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from command_line import Finished, Run, command, runner, write_options
from sample_store import DISK_SIZE, KIB, SampleStore, Write, read_image, run

from livebackup_receiver.config import Config
from livebackup_receiver.decisions import drop_points
from livebackup_receiver.model import Point
from livebackup_receiver.store.paths import Store

# Each command is a Python that starts anew.
pytestmark = pytest.mark.timeout(300)

DB, LOG, WEB = ("db", "vd-a"), ("db", "vd-b"), ("web", "vd-a")


@pytest.fixture
def cli(config: Config, tmp_path: Path) -> Run:
    """Runs `livebackup-receiver` with a configuration file."""
    return runner(write_options(config, tmp_path / "receiver.toml"))


@pytest.fixture
def point(store: SampleStore) -> Point:
    """Two VMs, one of them with two disks."""
    return store.add({DB: [Write(0, 256 * KIB, 1)], LOG: [Write(0, KIB, 2)], WEB: [Write(4096, KIB, 3)]})


def refusal(result: Finished) -> str:
    """The one line on stderr of a command that failed."""
    assert result.returncode != 0
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line.removeprefix("livebackup-receiver: ")


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_whole_group_is_restored_at_one_point(
    cli: Run, store: SampleStore, point: Point, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = cli("restore", point.id, "--to", str(out), "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert files_in(out) == ["db/vd-a.qcow2", "db/vd-b.qcow2", "web/vd-a.qcow2"]
    assert sorted(done.stdout.split()) == sorted(str(out / file) for file in files_in(out))
    for vm, disk in (DB, LOG, WEB):
        assert read_image(out / vm / f"{disk}.qcow2", "qcow2", tmp_path) == store.content[vm, disk]


def test_some_vms_of_a_group(cli: Run, store: SampleStore, point: Point, tmp_path: Path) -> None:
    store.add({("mail", "vd-a"): [Write(0, KIB, 4)]})
    assert (
        cli("restore", point.id, "--vm", "web", "--vm", "db", "--to", str(tmp_path / "out")).returncode == 0
    )
    assert len(files_in(tmp_path / "out")) == 3


def test_another_name_gives_another_directory_and_no_bitmap(
    cli: Run, store: SampleStore, point: Point, tmp_path: Path
) -> None:
    done = cli("restore", point.id, "--vm", "web", "--as", "web-2", "--to", str(tmp_path / "out"), "--json")
    (disk,) = json.loads(done.stdout)["disks"]
    assert disk["file"] == str(tmp_path / "out/web-2/vd-a.qcow2")
    assert disk["tracked"] is False
    assert bitmaps(tmp_path / "out/web-2/vd-a.qcow2") == []


def bitmaps(image: Path) -> list[dict[str, object]]:
    facts = json.loads(run("qemu-img", "info", "--output=json", str(image)))
    found: list[dict[str, object]] = facts["format-specific"]["data"].get("bitmaps", [])
    return found


def test_a_disk_of_the_vm_itself_is_tracked_from_birth(
    cli: Run, store: SampleStore, point: Point, tmp_path: Path
) -> None:
    done = cli("restore", point.id, "--vm", "web", "--to", str(tmp_path / "out"), "--json")
    (disk,) = json.loads(done.stdout)["disks"]
    assert disk["tracked"] is True
    image = tmp_path / "out/web/vd-a.qcow2"
    assert {each["name"]: each["flags"] for each in bitmaps(image)} == {
        f"livebackup:{point.id}": ["auto"],
        f"livebackup:end:{point.id}": [],
        "livebackup:tracked": [],
    }
    assert {each["granularity"] for each in bitmaps(image)} == {65536}
    checked = json.loads(run("qemu-img", "check", "--output=json", str(image)))
    assert {
        key: value for key, value in checked.items() if key in ("check-errors", "leaks", "corruptions")
    } == {"check-errors": 0}


def test_json_is_all_that_is_on_stdout(cli: Run, point: Point, tmp_path: Path) -> None:
    done = cli("restore", point.id, "--to", str(tmp_path / "out"), "--json")
    facts = json.loads(done.stdout)
    assert facts["lost"] == []
    assert [(each["vm"], each["disk"]) for each in facts["disks"]] == [DB, LOG, WEB]
    assert facts["disks"][0]["moved_bytes"] == 256 * KIB


def test_only_what_differs_is_moved_onto_an_older_copy(
    cli: Run, store: SampleStore, point: Point, tmp_path: Path
) -> None:
    newer = store.add({DB: [Write(64 * KIB, 64 * KIB, 7)]})
    to = ["--vm", "db", "--disk", "vd-a", "--to", str(tmp_path / "out"), "--json"]
    assert cli("restore", point.id, *to).returncode == 0
    done = cli("restore", newer.id, *to, "--delta")
    (disk,) = json.loads(done.stdout)["disks"]
    assert (disk["moved_bytes"], disk["taken_bytes"]) == (64 * KIB, 192 * KIB)
    assert "64.0 KiB came from the store, and 192.0 KiB from the older copy" in done.stderr
    assert read_image(tmp_path / "out/db/vd-a.qcow2", "qcow2", tmp_path) == store.content[DB]


def test_an_expired_point_is_refused(cli: Run, store: SampleStore, point: Point, tmp_path: Path) -> None:
    store.add({DB: [Write(0, KIB, 7)]})
    drop_points(store.catalog, Store(store.root), [point.id], now=datetime.now(UTC))
    refused = cli("restore", point.id, "--to", str(tmp_path / "out"))
    assert refused.returncode == 5
    assert refusal(refused).startswith(f"point {point.id} does not exist; list the points with")


@pytest.mark.parametrize("foreign", ["out/web", "out/web/vd-a.qcow2"])
def test_what_is_another_users_is_named_with_who_would_write_it(
    config: Config, point: Point, tmp_path: Path, foreign: str
) -> None:
    (tmp_path / "out/web").mkdir(parents=True)
    (tmp_path / "out/web/vd-a.qcow2").touch()
    (tmp_path / foreign).chmod(0o700)
    os.chown(tmp_path / foreign, 65534, 65534)
    argv = command(write_options(config, tmp_path / "receiver.toml"), "restore", point.id, "--vm", "web")
    # Even root is a user among others without its capabilities.
    argv = ["setpriv", "--bounding-set=-all", *argv, "--to", str(tmp_path / "out"), "--force"]
    refused = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    said = f"{tmp_path / foreign} cannot be written by user root (it belongs to another user); name a "
    assert (refused.returncode, refusal(refused).startswith(said)) == (7, True), refused.stderr


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--vm", "mail"], 5, "VM mail is not in point "),
        (["--vm", "db", "--disk", "vd-z"], 5, "disk vd-z of VM db is not in point "),
        (
            ["--disk", "vd-a"],
            7,
            "--disk is for one VM, and 2 are to be restored: db, web; name the one with --vm",
        ),
        (
            ["--as", "copy"],
            7,
            "--as is for one VM, and 2 are to be restored: db, web; name the one with --vm",
        ),
        (["--vm", "db", "--as", "../db"], 7, "VM '../db' is not usable as a name of a directory"),
        (["--vm", "db", "--as", "web"], 6, "VM web is the name of another VM that is backed up here; choose"),
        (["--delta", "--no-verify"], 7, "--delta needs the digests, which --no-verify leaves out; give one"),
        (
            ["--accept-damage", "--no-verify"],
            7,
            "--accept-damage needs the digests, which --no-verify leaves",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_made(
    cli: Run, point: Point, tmp_path: Path, words: list[str], code: int, sentence: str
) -> None:
    refused = cli("restore", point.id, *words, "--to", str(tmp_path / "out"))
    assert refused.returncode == code
    assert refusal(refused).startswith(sentence)
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way_keeps_all_others_from_being_made(cli: Run, point: Point, tmp_path: Path) -> None:
    (tmp_path / "out/web").mkdir(parents=True)
    (tmp_path / "out/web/vd-a.qcow2").write_text("mine")
    refused = cli("restore", point.id, "--to", str(tmp_path / "out"))
    assert refused.returncode == 6
    assert "web/vd-a.qcow2 already exists" in refusal(refused)
    assert files_in(tmp_path / "out") == ["web/vd-a.qcow2"]
    assert os.listdir(tmp_path / "out") == ["web"]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            f"qemu-img create -q -f qcow2 FILE {2 * DISK_SIZE}",
            "its disk has 8,388,608 bytes, and the point's 4,194,304",
        ),
        (f"qemu-img create -q -f raw FILE {DISK_SIZE}", "as a qcow2 image, "),
        (
            f"qemu-img create -q -f qcow2 -o cluster_size=4k FILE {DISK_SIZE}",
            "its clusters are not of 64 KiB",
        ),
        (f"qemu-img create -q -f qcow2 -u -b x.qcow2 -F qcow2 FILE {DISK_SIZE}", "it lies on x.qcow2"),
    ],
)
def test_what_is_no_older_copy_of_the_disk_is_refused_and_stays(
    cli: Run, point: Point, tmp_path: Path, make: str, sentence: str
) -> None:
    file = tmp_path / "out/web/vd-a.qcow2"
    file.parent.mkdir(parents=True)
    run(*make.replace("FILE", str(file)).split())
    before = file.read_bytes()
    refused = cli("restore", point.id, "--vm", "web", "--to", str(tmp_path / "out"), "--delta")
    assert refused.returncode == 7
    assert f"{file} cannot be the older copy for --delta: {sentence}" in refusal(refused)
    assert file.read_bytes() == before
    assert files_in(tmp_path / "out") == ["web/vd-a.qcow2"]


@pytest.mark.parametrize(("size", "kind", "sentence"), [
    (DISK_SIZE, "qcow2", "it is a qcow2 image, and a raw one is to be written"),
    (2 * DISK_SIZE, "raw", "its disk has 8,388,608 bytes, and the point's 4,194,304"),
])  # fmt: skip
def test_nor_is_another_format_a_raw_copy(
    cli: Run, point: Point, tmp_path: Path, size: int, kind: str, sentence: str
) -> None:
    file = tmp_path / "out/web/vd-a.raw"
    file.parent.mkdir(parents=True)
    run("qemu-img", "create", "-q", "-f", kind, str(file), str(size))
    words = ["--vm", "web", "--to", str(tmp_path / "out"), "--delta", "--format", "raw"]
    assert sentence in refusal(cli("restore", point.id, *words))


def test_a_target_without_room_is_refused_and_stays_as_it_was(
    cli: Run, store: SampleStore, tmp_path: Path
) -> None:
    point = store.add({DB: [Write(0, 3 << 20, 1)]})
    small = tmp_path / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=2m", "small", str(small))
    try:
        refused = cli("restore", point.id, "--to", str(small / "out"))
        left = os.listdir(small)
    finally:
        run("umount", str(small))
    assert refused.returncode == 8
    assert "the restore needs 3,145,728 bytes in" in refusal(refused)
    assert left == []


def test_progress_is_no_part_of_the_result(cli: Run, config: Config, point: Point, tmp_path: Path) -> None:
    """On a terminal there are bars, but only on stderr."""
    words = f"restore {point.id} --to {tmp_path}/out --config {tmp_path}/receiver.toml --json"
    argv = f"python3 -m livebackup_receiver {words} > {tmp_path}/result"
    shown = subprocess.run(
        ["script", "--quiet", "--return", "--command", argv, "/dev/null"],
        capture_output=True, text=True, timeout=120, check=True, env={**os.environ, "TERM": "xterm"},
    ).stdout  # fmt: skip
    assert len(json.loads((tmp_path / "result").read_text())["files"]) == 3
    for name in ("db vd-a", "db vd-b", "web vd-a"):
        assert f"{name} verifying" in shown
