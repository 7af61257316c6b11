# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`livebackup-receiver files`, on real points and in real guests."""

from __future__ import annotations

import os
import pwd
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import guest_disks
import pytest
from command_line import Result, run_command, write_options
from damaging import flip
from sample_store import SampleStore

from livebackup_receiver.browse.names import shown
from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.config import Config
from livebackup_receiver.model import Point
from livebackup_receiver.scrub.act import Scrubbed, scrub_layer
from livebackup_receiver.store.paths import Store

pytestmark = pytest.mark.timeout(600)

USER = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return guest_disks.make_tree(tmp_path / "tree")


@pytest.fixture
def options(config: Config, tmp_path: Path) -> Path:
    return write_options(config, tmp_path / "receiver.toml")


@pytest.fixture
def point(store: SampleStore, tree: Path, tmp_path: Path) -> Point:
    return guest_disks.add_disks(store, {"vd-a": guest_disks.ext4(tmp_path / "image", tree)})


async def files(options: Path, verb: str, point: Point, *words: str) -> Result:
    return await run_command(options, "files", verb, point.id, "--vm", "db", *words)


async def test_files_and_directories_are_taken_out_as_they_were_at_the_point(
    store: SampleStore, options: Path, point: Point, tree: Path, tmp_path: Path
) -> None:
    newer = change_hosts(store, tmp_path)
    to, odd = tmp_path / "out", shown(guest_disks.ODD)
    wanted = ("/etc/random", "/etc/hosts", f"sda:/{odd}", "sda:/deep")
    taken = await files(options, "get", point, *wanted, "--to", str(to))
    assert taken.code == 0, taken.err
    assert taken.out.splitlines() == [f"{to}/{name}" for name in ("random", "hosts", odd, "deep")]
    assert (to / "random").read_bytes() == (tree / "etc" / "random").read_bytes()
    assert (to / "hosts").read_text() == "127.0.0.1 localhost\n"
    assert (to / os.fsdecode(guest_disks.ODD)).read_bytes() == guest_disks.ODD
    found = sorted(str(path.relative_to(to / "deep")) for path in (to / "deep").rglob("*"))
    assert found == ["er", "er/empty", "root-shell", "second-name"]
    assert not (to / "deep" / "root-shell").stat().st_mode & 0o7111
    assert sorted(taken.err.splitlines()) == [
        "left out: disk, it is neither a file nor a directory",
        "left out: link, it is a link to /etc",
        "left out: pipe, it is neither a file nor a directory",
    ]
    again = tmp_path / "again"
    taken = await files(
        options, "get", newer, "sda:/etc/hosts", "sda:/deep", "--tar", "--to", str(again), "--json"
    )
    assert taken.json["files"] == [f"{again}/hosts", f"{again}/deep.tar"]
    assert (again / "hosts").read_text() == "10.0.0.1 later\n"
    with tarfile.open(again / "deep.tar") as tar:
        assert tar.getmember("./disk").isblk()
        assert (tar.getmember("./link").linkname, tar.getmember("./root-shell").mode) == ("/etc", 0o6755)


def change_hosts(store: SampleStore, tmp_path: Path) -> Point:
    """An incremental point, for which the guest has written one of its files anew."""
    (tmp_path / "later").write_text("10.0.0.1 later\n")
    image = tmp_path / "image"
    guest_disks.edit(image, "rm /etc/hosts", f"write {tmp_path}/later /etc/hosts")
    return guest_disks.add_disks(store, {"vd-a": image})


async def test_what_is_there_is_listed(options: Path, point: Point) -> None:
    every = await files(options, "list", point, "sda:/many", "--offset", "1000", "--json")
    assert (len(every.json["entries"]), every.json["total"]) == (guest_disks.MANY - 1000, guest_disks.MANY)
    first = await files(options, "list", point, "sda:/many", "--limit", "2")
    assert [line.split()[:2] for line in first.out.splitlines()[1:]] == [["00000", "file"], ["00001", "file"]]
    assert first.err == "2,500 entries; go on with --offset 2\n"


async def test_damage_must_be_accepted(
    store: SampleStore, config: Config, options: Path, point: Point
) -> None:
    flip(store.layer(point), 0)
    scrubbed = Scrubbed("db", "vd-a", point.id, Store(config.store), store.catalog)
    scrub_layer(scrubbed, at_once, now=datetime.now(UTC))
    refused = await files(options, "list", point)
    assert refused.code == 10
    assert "disk vd-a of VM db is damaged" in refused.refusal
    listed = await files(options, "list", point, "--accept-damage")
    assert listed.words.startswith("File system Type Label Disk Size Used Files sda ext4 vd-a 32.0 MiB")


async def test_a_file_that_is_not_there_leaves_nothing(options: Path, point: Point, tmp_path: Path) -> None:
    refused = await files(options, "get", point, "sda:/missing", "--to", str(tmp_path / "out"))
    assert refused.code == 5
    assert refused.refusal.startswith("sda:/missing: it does not exist; list what there is with")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("list", "{point}", "--vm", "mail"), 5, "VM mail is not in point"),
        (("list", "01BX5ZZKBKACTAV9WEVGEMMVRZ", "--vm", "db"), 5, "does not exist"),
        (("list", "{point}", "--vm", "db", "sda:/../.."), 7, "write it without .."),
        (
            ("get", "{point}", "--vm", "db", "sda:/a", "sda:/b\\", "--to", "{to}"),
            7,
            "a backslash is written as two",
        ),
        (
            ("get", "{point}", "--vm", "db", "/a", "--to", "/proc/nothing"),
            7,
            f"/proc/nothing cannot be written by user {USER} (No such file or directory); name a",
        ),
    ],
)
async def test_what_cannot_be_is_said_at_once(
    options: Path, point: Point, tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    to = tmp_path / "out"
    refused = await run_command(options, "files", *(word.format(point=point.id, to=to) for word in words))
    assert (refused.code, said in refused.refusal) == (code, True), refused.refusal
