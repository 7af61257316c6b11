# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys of encrypted layers: given once when a process starts, kept in its memory, written nowhere.

Every reader of a layer may need them, however deep below it is called, so a process has one keyring.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from livebackup_receiver.chain import luks
from livebackup_receiver.chain.image import Image
from livebackup_receiver.chain.preamble import Span
from livebackup_receiver.chain.xts import Xts
from livebackup_receiver.errors import KeyMissing, LayerUnsupported


@dataclass(frozen=True)
class Opened:
    """An encrypted layer's cipher, and the number of the key that gave it."""

    key: int
    cipher: Xts


@dataclass(frozen=True)
class Keyring:
    """Keys that open layers.

    :param keys: as QEMU's secrets have them: the bytes of a file, all of them
    :param encrypts: whether new layers are encrypted, with the first key
    """

    keys: Sequence[bytes] = field(default=(), repr=False)
    encrypts: bool = False
    _opened: dict[bytes, Opened] = field(default_factory=dict, repr=False)

    def new_header(self) -> bytes:
        """A LUKS header for a new layer, opened with the first key; what it hides is known from then on."""
        volume_key = luks.fresh_volume_key()
        area = luks.create(self.keys[0], volume_key)
        self._opened[area[: luks.HEADER_BYTES]] = Opened(0, Xts(volume_key))
        return area

    def open(self, path: Path, descriptor: int, span: Span) -> Opened:
        """What opens a layer.

        :raise KeyMissing: none of the keys does
        :raise LayerUnsupported: it is encrypted in another way than the receiver does it
        """
        start = os.pread(descriptor, luks.HEADER_BYTES, span.offset)
        if start not in self._opened:
            self._opened[start] = self._try(path, os.pread(descriptor, span.length, span.offset))
        return self._opened[start]

    def _try(self, path: Path, area: bytes) -> Opened:
        try:
            for number, key in enumerate(self.keys):
                if volume_key := luks.unlock(area, key):
                    return Opened(number, Xts(volume_key))
            luks.parse(area)
        except luks.NotUnderstood as problem:
            raise LayerUnsupported(str(path), str(problem)) from None
        raise KeyMissing(str(path))


_current = Keyring()


def current() -> Keyring:
    """The keyring of this process."""
    return _current


def use(keyring: Keyring) -> None:
    """Make this the keyring of the process."""
    global _current
    _current = keyring


@contextmanager
def using(keyring: Keyring) -> Iterator[None]:
    """Another keyring until the block ends."""
    before = current()
    use(keyring)
    try:
        yield
    finally:
        use(before)


def cipher_of(image: Image) -> Xts | None:
    """What decrypts the data of an image; None if they are plain.

    :raise KeyMissing: no key was given that opens it
    :raise LayerUnsupported: it is encrypted in another way than the receiver does it
    """
    return current().open(image.path, image.descriptor, image.luks).cipher if image.luks else None
