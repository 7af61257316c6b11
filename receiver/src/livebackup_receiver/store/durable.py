# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes that survive a power cut: data first, then the name, then the directory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

TEMPORARY_SUFFIX = ".tmp"


def write_file(path: Path, content: bytes, *, sync_name: bool = True) -> None:
    """Write a file so that it is there whole or not at all.

    :param sync_name: False: the caller brings the directory's names to the disk
    """
    with writing(path, sync_name=sync_name) as file:
        file.write(content)


@contextmanager
def writing(path: Path, *, sync_name: bool = True) -> Iterator[BinaryIO]:
    """Write a file piece by piece so that it is there whole or not at all."""
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    temporary.rename(path)
    if sync_name:
        sync_directory(path.parent)


def rename(source: Path, target: Path) -> None:
    """Give a file, already on the disk, its final name in the same directory."""
    source.rename(target)
    sync_directory(target.parent)


def sync_file(path: Path) -> None:
    """Bring a file's content to the disk, whoever wrote it."""
    _fsync(path, os.O_RDONLY)


def sync_directory(path: Path) -> None:
    """Bring a directory's names to the disk."""
    _fsync(path, os.O_RDONLY | os.O_DIRECTORY)


def make_directory(path: Path) -> None:
    """Make a directory and its parents, each durable in its own parent."""
    missing = [parent for parent in (path, *path.parents) if not parent.exists()]
    for directory in reversed(missing):
        directory.mkdir(mode=0o700, exist_ok=True)
        sync_directory(directory.parent)


def remove_files(paths: Iterable[Path]) -> list[Path]:
    """Remove files that may or may not exist; the removed ones."""
    removed = [path for path in paths if _unlink(path)]
    for directory in {path.parent for path in removed}:
        sync_directory(directory)
    return removed


def _unlink(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
