# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""AES-XTS (IEEE 1619) over many sectors at once, as LUKS has it under the name ``aes-xts-plain64``.

AES is the library's. Its own XTS takes one sector for each call, which from Python is several times as slow
as a disk, so the tweaks of all sectors are made together here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

SECTOR = 512
BLOCK = 16
BLOCKS = SECTOR // BLOCK
# What x to the power of 128 is in the field of the standard.
_FOLD = np.uint64(0x87)
_ONE, _TOP = np.uint64(1), np.uint64(63)

Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Xts:
    """A key of 32 or 64 bytes, for AES-128 or AES-256; the second half makes the tweaks."""

    key: bytes = field(repr=False)

    def encrypt(self, plain: bytes | memoryview, sector: int) -> bytes:
        """Encrypt whole sectors, the first of which has this number."""
        return _apply(self._cipher(0).encryptor(), plain, self._tweaks(sector, len(plain) // SECTOR))

    def decrypt(self, encrypted: bytes | memoryview, sector: int) -> bytes:
        """Decrypt whole sectors, the first of which has this number."""
        return _apply(self._cipher(0).decryptor(), encrypted, self._tweaks(sector, len(encrypted) // SECTOR))

    def _cipher(self, half: int) -> Cipher[modes.ECB]:
        length = len(self.key) // 2
        return Cipher(algorithms.AES(self.key[half * length : (half + 1) * length]), modes.ECB())

    def _tweaks(self, first: int, count: int) -> Words:
        """Two words for each block: the encrypted number of its sector, doubled for each block before it."""
        numbers = np.zeros((count, 2), "<u8")
        numbers[:, 0] = np.arange(first, first + count, dtype=np.uint64)
        seeds = np.frombuffer(self._cipher(1).encryptor().update(numbers.tobytes()), "<u8").reshape(count, 2)
        low, high = seeds[:, 0].astype(np.uint64), seeds[:, 1].astype(np.uint64)
        tweaks = np.empty((count, BLOCKS, 2), np.uint64)
        for block in range(BLOCKS):
            tweaks[:, block, 0], tweaks[:, block, 1] = low, high
            carry = high >> _TOP
            high = (high << _ONE) | (low >> _TOP)
            low = (low << _ONE) ^ (carry * _FOLD)
        return tweaks.reshape(-1)


def _apply(context: CipherContext, content: bytes | memoryview, tweaks: Words) -> bytes:
    mixed = np.frombuffer(content, "<u8") ^ tweaks
    done = np.frombuffer(context.update(mixed.tobytes()), "<u8") ^ tweaks
    return done.tobytes()
