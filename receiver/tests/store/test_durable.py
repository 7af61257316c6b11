# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import pytest

from livebackup_receiver.store import durable


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what was brought to the disk, in order; renames are in it too."""
    order: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def spy_on_fsync(descriptor: int) -> None:
        order.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def spy_on_rename(self: Path, target: Path) -> Path:
        order.append(f"rename {self.name} {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", spy_on_fsync)
    monkeypatch.setattr(Path, "rename", spy_on_rename)
    return order


def test_data_comes_before_its_name_and_the_name_before_the_answer(tmp_path: Path, synced: list[str]) -> None:
    durable.write_file(tmp_path / "manifest", b"content")
    assert (tmp_path / "manifest").read_bytes() == b"content"
    assert synced == ["sync manifest.tmp", "rename manifest.tmp manifest", f"sync {tmp_path.name}"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    durable.write_file(tmp_path / "manifest", b"old")

    def fail(descriptor: int) -> None:
        raise OSError

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"^$"):
        durable.write_file(tmp_path / "manifest", b"new")
    assert (tmp_path / "manifest").read_bytes() == b"old"


def test_each_new_directory_is_durable_in_its_parent(tmp_path: Path, synced: list[str]) -> None:
    durable.make_directory(tmp_path / "vms" / "db")
    durable.make_directory(tmp_path / "vms" / "db")
    assert (tmp_path / "vms" / "db").stat().st_mode & 0o777 == 0o700
    assert synced == [f"sync {tmp_path.name}", "sync vms"]


def test_removing_says_what_was_there(tmp_path: Path, synced: list[str]) -> None:
    there, gone = tmp_path / "a", tmp_path / "b"
    there.write_bytes(b"")
    assert durable.remove_files([there, gone]) == [there]
    assert not there.exists()
    assert synced == [f"sync {tmp_path.name}"]
