# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of files as text: any bytes but NUL and slash may be in one. Pure.

What cannot be shown safely, or is no UTF-8, is written as ``\\xNN`` for each byte, and a backslash as two, so
that no name can pose as another, command a terminal, or break a line; and every text leads back to its bytes.
"""

from __future__ import annotations

import re

from livebackup_receiver.errors import GuestPathInvalid

_ESCAPE = re.compile(rb"\\(\\|x[0-9a-fA-F]{2})")


def shown(name: bytes) -> str:
    """A name or path as text."""
    # What is no UTF-8 comes as lone surrogates, which are not printable.
    return "".join(_shown(letter) for letter in name.decode("utf-8", "surrogateescape"))


def meant(text: str) -> bytes:
    """The name or path that a text stands for.

    :raise GuestPathInvalid: a backslash in it begins no escape, or it holds a NUL
    """
    # Given on a command line, a name may hold bytes as they are.
    raw = text.encode("utf-8", "surrogateescape")
    if b"\\" in _ESCAPE.sub(b"", raw):
        raise GuestPathInvalid(text, "a backslash is written as two, and an odd byte as \\\\xNN")
    name = _ESCAPE.sub(lambda found: _byte(found[1]), raw)
    if b"\0" in name:
        raise GuestPathInvalid(shown(name), "no name holds a NUL")
    return name


def absolute(text: str) -> bytes:
    """The absolute path that a text stands for, without empty parts and dots.

    :raise GuestPathInvalid: it stands for none, or goes up by ``..``
    """
    parts = [part for part in meant(text).split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise GuestPathInvalid(text, "write it without ..")
    return b"/" + b"/".join(parts)


def _shown(letter: str) -> str:
    if letter == "\\":
        return "\\\\"
    if letter.isprintable():
        return letter
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "surrogateescape"))


def _byte(escape: bytes) -> bytes:
    return b"\\" if escape == b"\\" else bytes([int(escape[1:], 16)])
