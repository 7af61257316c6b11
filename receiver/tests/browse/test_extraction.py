# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile archives and names, written into a real directory."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from livebackup_receiver.browse.extraction import LeftOut, write_file, write_tree
from livebackup_receiver.errors import GuestFileUnreadable, TargetExists

Change = Callable[[tarfile.TarInfo], None]


class Archive:
    """A tar archive as somebody evil would write it."""

    def __init__(self) -> None:
        self._bytes = io.BytesIO()
        self._tar = tarfile.TarFile(fileobj=self._bytes, mode="w", format=tarfile.GNU_FORMAT)

    def add(
        self,
        name: str,
        content: bytes = b"",
        type: bytes = tarfile.REGTYPE,
        link: str = "",
        mode: int = 0o644,
    ) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode = type, link, mode
        info.size = len(content) if type == tarfile.REGTYPE else 0
        self._tar.addfile(info, io.BytesIO(content))

    @property
    def content(self) -> bytes:
        self._tar.close()
        return self._bytes.getvalue()


async def parts(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


async def unpack(archive: Archive, directory: Path) -> list[LeftOut]:
    return await write_tree(parts(archive.content), directory, b"tree", "sda:/tree")


def everything(directory: Path) -> dict[str, bytes]:
    """Every file below a directory; nothing else is there but directories."""
    found = {}
    for path in directory.rglob("*"):
        assert not path.is_symlink()
        if not path.is_dir():
            assert stat.S_ISREG(path.lstat().st_mode)
            found[str(path.relative_to(directory))] = path.read_bytes()
    return found


async def test_files_and_directories_come_out_as_they_were(tmp_path: Path) -> None:
    archive = Archive()
    archive.add("./", type=tarfile.DIRTYPE)
    archive.add("./a", type=tarfile.DIRTYPE, mode=0)
    archive.add("./a/file", b"content" * 1000)
    archive.add("./a/" + "long" * 60, b"x")
    archive.add("./second", type=tarfile.LNKTYPE, link="./a/file")
    assert await unpack(archive, tmp_path) == []
    assert everything(tmp_path / "tree") == {
        "a/file": b"content" * 1000,
        "a/" + "long" * 60: b"x",
        "second": b"content" * 1000,
    }


async def test_nothing_is_written_elsewhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("untouched")
    target = tmp_path / "target"
    target.mkdir()
    archive = Archive()
    archive.add("../escaped", b"evil")
    archive.add("a/../../escaped", b"evil")
    archive.add(f"{outside}/absolute", b"evil")
    archive.add("link", type=tarfile.SYMTYPE, link=str(outside))
    archive.add("link/file", b"evil")
    archive.add("hard", type=tarfile.LNKTYPE, link=f"{outside}/file")
    archive.add("harder", type=tarfile.LNKTYPE, link="../../outside/file")
    archive.add("good", b"good")
    left = {each.path for each in await unpack(archive, target)}
    assert left >= {"../escaped", "a/../../escaped", "link", "hard", "harder"}
    assert everything(outside) == {"file": b"untouched"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "target"]
    assert everything(target / "tree")["good"] == b"good"
    assert sorted(path.name for path in target.iterdir()) == ["tree"]


async def test_only_plain_files_with_plain_modes_are_made(tmp_path: Path) -> None:
    archive = Archive()
    archive.add("disk", type=tarfile.BLKTYPE)
    archive.add("pipe", type=tarfile.FIFOTYPE)
    archive.add("shell", b"#!", mode=0o6777)
    archive.add("both", b"first")
    archive.add("both", b"second")
    archive.add("both/below", b"third")
    left = await unpack(archive, tmp_path)
    assert [each.path for each in left] == ["disk", "pipe", "both", "both/below"]
    assert everything(tmp_path / "tree") == {"shell": b"#!", "both": b"first"}
    assert not (tmp_path / "tree" / "shell").stat().st_mode & 0o7133


@pytest.mark.parametrize("spoil", [lambda raw: raw[:700], lambda raw: b"\xff" * 2000])
async def test_half_an_archive_leaves_nothing(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    archive = Archive()
    archive.add("file", b"content" * 1000)
    with pytest.raises(GuestFileUnreadable, match="sda:/tree cannot be read: its archive makes no sense"):
        await write_tree(parts(spoil(archive.content)), tmp_path, b"tree", "sda:/tree")
    assert list(tmp_path.iterdir()) == []


async def test_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "name").symlink_to(tmp_path / "nowhere")
    with pytest.raises(TargetExists):
        await write_file(parts(b"x"), tmp_path, b"name")
    with pytest.raises(TargetExists):
        await write_tree(parts(b"x"), tmp_path, b"name", "sda:/")
    assert [path.name for path in tmp_path.iterdir()] == ["name"]


async def test_zeros_become_holes(tmp_path: Path) -> None:
    content = b"a" * 4096 + bytes(8 << 20) + b"b" + bytes(1 << 20)
    await write_file(parts(content, 256 << 10), tmp_path, b"name")
    assert (tmp_path / "name").read_bytes() == content
    assert (tmp_path / "name").stat().st_blocks * 512 < 1 << 20


async def test_a_file_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise GuestFileUnreadable("sda:/x", "it ended")

    with pytest.raises(GuestFileUnreadable):
        await write_file(broken(), tmp_path, b"name")
    assert list(tmp_path.iterdir()) == []


async def test_names_are_bytes(tmp_path: Path) -> None:
    await write_file(parts(b"x"), tmp_path, b"odd \xff\n")
    assert os.listdir(os.fsencode(tmp_path)) == [b"odd \xff\n"]
