# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The C library libguestfs, which keeps names as the bytes they are; its own Python module takes UTF-8 only.

guestfs(3) describes the functions; their ABI is kept stable. Used by ``worker`` alone.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator, Sequence
from ctypes import POINTER, c_char, c_char_p, c_int, c_int64, c_uint32, c_uint64, c_void_p
from typing import Any, NamedTuple

LIBRARY = "libguestfs.so.0"
STAT_FIELDS = 22
READONLY, FORMAT, PROTOCOL, SERVER = (1 << bit for bit in (0, 1, 5, 6))


class GuestfsError(Exception):
    """A function of the library has failed."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.errno = number


class Stat(NamedTuple):
    """What is told of a file; times in seconds."""

    mode: int
    uid: int
    gid: int
    size: int
    mtime: int


class _Dirent(ctypes.Structure):
    _fields_ = (("ino", c_int64), ("ftyp", c_char), ("name", c_char_p))


class _Dirents(ctypes.Structure):
    _fields_ = (("len", c_uint32), ("val", POINTER(_Dirent)))


class _Stats(ctypes.Structure):
    _fields_ = (("len", c_uint32), ("val", POINTER(c_int64 * STAT_FIELDS)))


class _Drive(ctypes.Structure):
    """``struct guestfs_add_drive_opts_argv``."""

    _fields_ = (
        ("bitmask", c_uint64),
        ("readonly", c_int),
        ("format", c_char_p),
        ("iface", c_char_p),
        ("name", c_char_p),
        ("label", c_char_p),
        ("protocol", c_char_p),
        ("server", POINTER(c_char_p)),
        ("username", c_char_p),
        ("secret", c_char_p),
        ("cachemode", c_char_p),
        ("discard", c_char_p),
        ("copyonread", c_int),
        ("blocksize", c_int),
    )


class Guestfs:
    """One handle; every method raises ``GuestfsError`` for what the library calls an error."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(LIBRARY)
        self._libc = ctypes.CDLL(None)
        self._libc.free.argtypes = [c_void_p]
        self._handle = self._typed("guestfs_create", c_void_p)()
        self._typed("guestfs_set_error_handler", None)(c_void_p(self._handle), None, None)

    def close(self) -> None:
        self._typed("guestfs_close", None)(c_void_p(self._handle))

    def cancel(self) -> None:
        """End the transfer that goes on; may be called from a signal handler (``guestfs_user_cancel``)."""
        self._library.guestfs_user_cancel(c_void_p(self._handle))

    def call(self, name: str, *arguments: bytes | int | None) -> int:
        """A function that gives a number, negative for an error."""
        found: int = self._call(name, c_int64 if "getsize64" in name else c_int, *arguments)
        if found < 0:
            raise self._error()
        return found

    def text(self, name: str, *arguments: bytes) -> bytes:
        """A function that gives a string."""
        found = self._pointer(name, *arguments)
        value = ctypes.cast(found, c_char_p).value or b""
        self._libc.free(found)
        return value

    def texts(self, name: str, *arguments: Any) -> list[bytes]:
        """A function that gives a list of strings."""
        found = self._pointer(name, *arguments)
        pointers = ctypes.cast(found, POINTER(c_void_p))
        values = list(self._taken(pointers))
        self._libc.free(found)
        return values

    def pairs(self, name: str, *arguments: bytes) -> dict[bytes, bytes]:
        """A function that gives a table."""
        flat = self.texts(name, *arguments)
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def add_nbd(self, export: bytes, socket: bytes) -> None:
        """Add a disk that is served on a Unix socket; the guest writes into a copy that is thrown away."""
        server = (c_char_p * 2)(b"unix:" + socket, None)
        options = _Drive(
            bitmask=READONLY | FORMAT | PROTOCOL | SERVER,
            readonly=1,
            format=b"raw",
            protocol=b"nbd",
            server=ctypes.cast(server, POINTER(c_char_p)),
        )
        if self._call("add_drive_opts_argv", c_int, export, ctypes.byref(options)) < 0:
            raise self._error()

    def names(self, directory: bytes) -> list[bytes]:
        """The names in a directory, without dots, in order."""
        found = self._pointer("readdir", directory)
        entries = ctypes.cast(found, POINTER(_Dirents)).contents
        names = [entries.val[at].name for at in range(entries.len)]
        self._typed("guestfs_free_dirent_list", None)(found)
        return sorted(name for name in names if name not in (b".", b".."))

    def stats(self, directory: bytes, names: Sequence[bytes]) -> list[Stat | None]:
        """Of each name; None: it cannot be told."""
        found = self._pointer("lstatnslist", directory, _strings(names))
        entries = ctypes.cast(found, POINTER(_Stats)).contents
        rows = [list(entries.val[at]) for at in range(entries.len)]
        self._typed("guestfs_free_statns_list", None)(found)
        return [_stat(row) for row in rows]

    def stat(self, path: bytes) -> Stat:
        """Of one file; a link is not followed."""
        found = self._pointer("lstatns", path)
        row = list(ctypes.cast(found, POINTER(c_int64 * STAT_FIELDS)).contents)
        self._typed("guestfs_free_statns", None)(found)
        return Stat(*_row(row))

    def links(self, directory: bytes, names: Sequence[bytes]) -> list[bytes]:
        """Where each symbolic link leads; empty: it cannot be told."""
        return self.texts("readlinklist", directory, _strings(names))

    def used(self, directory: bytes) -> int:
        """Bytes that are taken of the file system mounted there."""
        found = self._pointer("statvfs", directory)
        values = ctypes.cast(found, POINTER(c_int64))
        used = values[1] * (values[2] - values[3])
        self._typed("guestfs_free_statvfs", None)(found)
        return int(used)

    def _pointer(self, name: str, *arguments: Any) -> c_void_p:
        found = self._call(name, c_void_p, *arguments)
        if not found:
            raise self._error()
        return c_void_p(found)

    def _call(self, name: str, kind: Any, *arguments: Any) -> Any:
        return self._typed(f"guestfs_{name}", kind)(c_void_p(self._handle), *arguments)

    def _typed(self, name: str, kind: Any) -> Any:
        function = getattr(self._library, name)
        function.restype = kind
        return function

    def _taken(self, pointers: Any) -> Iterator[bytes]:
        at = 0
        while pointers[at]:
            yield ctypes.cast(pointers[at], c_char_p).value or b""
            self._libc.free(pointers[at])
            at += 1

    def _error(self) -> GuestfsError:
        message = self._call("last_error", c_char_p) or b"no message"
        number = self._call("last_errno", c_int)
        return GuestfsError(message.decode(errors="replace"), number or errno.EIO)


def _strings(names: Sequence[bytes]) -> Any:
    return (c_char_p * (len(names) + 1))(*names, None)


def _stat(row: Sequence[int]) -> Stat | None:
    # st_ino is -1 for a file that cannot be looked at.
    return None if row[1] == -1 else Stat(*_row(row))


def _row(row: Sequence[int]) -> tuple[int, ...]:
    """Mode, uid, gid, size and time of ``struct guestfs_statns``."""
    return row[2], row[4], row[5], row[7], row[12]


def is_installed() -> bool:
    """Whether the library can be loaded."""
    try:
        ctypes.CDLL(LIBRARY, mode=os.RTLD_LAZY)
    except OSError:
        return False
    return True
