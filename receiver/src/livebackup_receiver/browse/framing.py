# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the worker sends to the receiver: frames of one kind byte, a length, and that many bytes.

Data frames carry parts of a file; a reply in JSON ends each answer. Bytes of names are sent as Latin-1.
"""

from __future__ import annotations

import struct

HEADER = struct.Struct(">cI")
REPLY = b"R"
DATA = b"D"
# More than any honest reply; what is longer comes from a worker that was taken over.
LONGEST = 64 << 20
CHUNK = 256 << 10


def frame(kind: bytes, body: bytes) -> bytes:
    """One frame."""
    return HEADER.pack(kind, len(body)) + body


def text(name: bytes) -> str:
    """Bytes for JSON."""
    return name.decode("latin-1")


def raw(name: str) -> bytes:
    """Bytes from JSON."""
    return name.encode("latin-1")
