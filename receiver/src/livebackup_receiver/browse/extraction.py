# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing what a guest's disks hold into a directory of this machine, and nowhere else.

Names and archives come from a hostile place. Every directory is opened by its name from the one above it,
and a link is never followed; only plain files and directories are made, with plain modes, and nothing is
replaced. What is left out is said. A name appears when all below it is complete and durable.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tarfile
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from livebackup_receiver.browse.names import shown
from livebackup_receiver.completion import complete_in_thread
from livebackup_receiver.errors import GuestFileUnreadable, TargetExists, TargetUnwritable
from livebackup_receiver.store import durable

PARTIAL_SUFFIX = b".partial"
PIECE = 64 << 10
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
Parts = AsyncIterator[bytes]


class LeftOut(NamedTuple):
    """Something that was not taken out; ``path`` as ``names`` writes it."""

    path: str
    why: str


async def write_file(parts: Parts, directory: Path, name: bytes) -> None:
    """Write one file; long runs of zeros become holes.

    :raise TargetExists: the name is taken
    :raise TargetUnwritable: the directory cannot be written, or has no room
    """
    target, partial = _places(directory, name)
    with _cleaned(target, partial):
        with partial.open("xb") as file:
            async for part in parts:
                await complete_in_thread(_write_sparse, file, part)
            file.truncate(file.tell())
            await complete_in_thread(os.fsync, file.fileno())
        os.link(partial, target)
        partial.unlink()
        durable.sync_directory(directory)


async def write_tree(parts: Parts, directory: Path, name: bytes, what: str) -> list[LeftOut]:
    """Unpack a tar archive below a new directory; what was left out.

    :param what: of which directory it is, for messages
    :raise TargetExists: the name is taken
    :raise TargetUnwritable: the directory cannot be written, or has no room
    :raise GuestFileUnreadable: it is no sound archive
    """
    target, partial = _places(directory, name)
    with _cleaned(target, partial):
        partial.mkdir()
        reader, writer = os.pipe()
        unpacking = asyncio.create_task(complete_in_thread(_unpack_all, reader, partial))
        try:
            await _feed(parts, writer)
        finally:
            os.close(writer)
            found = (await asyncio.gather(unpacking, return_exceptions=True))[0]
        if isinstance(found, tarfile.TarError | ValueError | OverflowError):
            raise GuestFileUnreadable(what, f"its archive makes no sense ({found})")
        if isinstance(found, BaseException):
            raise found
        _rename_new(partial, target)
        durable.sync_directory(directory)
        return found


def unpack(archive: IO[bytes], root: int) -> Iterator[LeftOut]:
    """Write the members of an archive below an open directory; what is left out.

    :raise tarfile.TarError: it is no sound archive
    :raise OSError: the directory cannot be written
    """
    with tarfile.open(fileobj=archive, mode="r|", encoding="utf-8", errors="surrogateescape") as tar:
        for member in tar:
            name = os.fsencode(member.name)
            parts = [part for part in name.split(b"/") if part not in (b"", b".")]
            why = _refused(member, parts) if parts else None
            if why is None and parts:
                why = _write_member(tar, member, parts, root)
            if why:
                yield LeftOut(shown(name.removeprefix(b"./")), why)


def _refused(member: tarfile.TarInfo, parts: list[bytes]) -> str | None:
    """Why a member is not written; pure."""
    if b".." in parts or any(b"\0" in part for part in parts):
        return "its name leads elsewhere"
    if member.issym():
        return f"it is a link to {shown(os.fsencode(member.linkname))}"
    if member.issparse() or not (member.isreg() or member.isdir() or member.islnk()):
        return "it is neither a file nor a directory"
    return None


def _write_member(tar: tarfile.TarFile, member: tarfile.TarInfo, parts: list[bytes], root: int) -> str | None:
    try:
        with _opened(root, parts[:-1]) as parent:
            if member.isdir():
                _make_directory(parts[-1], parent)
            elif member.islnk():
                return _link(os.fsencode(member.linkname), parts[-1], parent, root)
            else:
                _write_regular(tar, member, parts[-1], parent)
    except (FileExistsError, NotADirectoryError, FileNotFoundError) as error:
        return f"its place cannot be made ({error.strerror})"
    return None


def _make_directory(name: bytes, parent: int) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=parent)


def _write_regular(tar: tarfile.TarFile, member: tarfile.TarInfo, name: bytes, parent: int) -> None:
    content = tar.extractfile(member)
    assert content is not None
    with closing(content), open(os.open(name, NEW_FILE, 0o644, dir_fd=parent), "wb") as file:
        while piece := content.read(PIECE):
            _write_sparse(file, piece)
        file.truncate(file.tell())
        file.flush()
        with suppress(OverflowError, OSError):
            os.utime(file.fileno(), (member.mtime, member.mtime))


def _link(origin: bytes, name: bytes, parent: int, root: int) -> str | None:
    """A second name of a file that the same archive has brought."""
    parts = [part for part in origin.split(b"/") if part not in (b"", b".")]
    if not parts or b".." in parts:
        return "it is a link to another place"
    with _opened(root, parts[:-1]) as directory:
        os.link(parts[-1], name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
    return None


@contextmanager
def _opened(root: int, parts: Iterable[bytes]) -> Iterator[int]:
    """A directory below another, reached without following any link."""
    descriptor = os.dup(root)
    try:
        for part in parts:
            below = os.open(part, DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _write_sparse(file: IO[bytes], part: bytes) -> None:
    for at in range(0, len(part), PIECE):
        piece = part[at : at + PIECE]
        if any(piece):
            file.write(piece)
        else:
            file.seek(len(piece), os.SEEK_CUR)


async def _feed(parts: Parts, writer: int) -> None:
    # Whoever unpacks may end early, and says why.
    with suppress(BrokenPipeError):
        async for part in parts:
            await complete_in_thread(_write_all, writer, part)


def _write_all(descriptor: int, part: bytes) -> None:
    left = memoryview(part)
    while left:
        left = left[os.write(descriptor, left) :]


def _unpack_all(reader: int, directory: Path) -> list[LeftOut]:
    root = os.open(directory, DIRECTORY)
    try:
        with open(reader, "rb") as archive:
            found = list(unpack(archive, root))
        os.sync()
        return found
    finally:
        os.close(root)


def _places(directory: Path, name: bytes) -> tuple[Path, Path]:
    target = directory / os.fsdecode(name)
    if os.path.lexists(target):
        raise _taken(target)
    return target, directory / os.fsdecode(name + PARTIAL_SUFFIX)


def _taken(target: Path) -> TargetExists:
    return TargetExists(shown(os.fsencode(target)), "name another directory, or remove it first")


def _rename_new(partial: Path, target: Path) -> None:
    if os.path.lexists(target):
        raise _taken(target)
    partial.rename(target)


@contextmanager
def _cleaned(target: Path, partial: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise _taken(target) from None
    except OSError as error:
        raise TargetUnwritable(shown(os.fsencode(target)), error.strerror or str(error)) from None
    finally:
        if partial.is_dir() and not partial.is_symlink():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)
