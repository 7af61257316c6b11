# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The LUKS header within a qcow2 file: opened with a key, or made for one; pure.

LUKS version 1 ("LUKS On-Disk Format Specification", 1.2.3), of which QEMU writes this in qcow2 files
(docs/interop/qcow2.txt, "Data encryption"). The numbers of the sectors are those of the file.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from livebackup_receiver.chain.xts import SECTOR, Xts

MAGIC, VERSION = b"LUKS\xba\xbe", 1
CIPHER, MODE, HASH = b"aes", b"xts-plain64", b"sha256"
HASHES = {b"sha1": "sha1", b"sha256": "sha256", b"sha512": "sha512"}
ENABLED, DISABLED = 0x00AC71F3, 0x0000DEAD
SLOTS = 8
STRIPES = 4000
KEY_BYTES = 64
KEY_SIZES = (32, 64)
# A key of 32 random bytes is not guessed, so nothing is won by making each try slow.
ITERATIONS = 1000
# A hostile header must not keep a processor busy for hours; QEMU's own headers have a few millions.
MAX_ITERATIONS = 20_000_000
FIRST_MATERIAL = 4096

_HEADER = struct.Struct(">6sH32s32s32sII20s32sI40s")
_SLOT = struct.Struct(">II32sII")
HEADER_BYTES = _HEADER.size + SLOTS * _SLOT.size


class NotUnderstood(ValueError):
    """It is no LUKS header, or of another kind; the message says which."""


@dataclass(frozen=True)
class Slot:
    """Where the volume's key lies, split and encrypted with one of the keys that open it."""

    iterations: int
    salt: bytes
    offset: int


@dataclass(frozen=True)
class LuksHeader:
    """What the first 592 bytes say; ``slots`` are the enabled ones, offsets are from the header's begin."""

    hash: str
    key_bytes: int
    digest: bytes
    digest_salt: bytes
    digest_iterations: int
    slots: tuple[Slot, ...]


def parse(area: bytes) -> LuksHeader:
    """Take a header apart.

    :raise NotUnderstood: it is none, or of a kind that is not understood here
    """
    if len(area) < HEADER_BYTES or not area.startswith(MAGIC):
        raise NotUnderstood("it has no LUKS header")
    dummy, version, cipher, mode, digest, dummy, key_bytes, *volume, dummy = _HEADER.unpack_from(area)
    found = cipher.rstrip(b"\0"), mode.rstrip(b"\0")
    if version != VERSION or found != (CIPHER, MODE) or key_bytes not in KEY_SIZES:
        raise NotUnderstood("it is encrypted in another way than by LUKS 1 with aes-xts-plain64")
    if digest.rstrip(b"\0") not in HASHES:
        raise NotUnderstood("the hash of its LUKS header is another one than sha1, sha256 or sha512")
    slots = tuple(_slots(area, key_bytes))
    iterations = volume[2]
    if not all(0 < each <= MAX_ITERATIONS for each in (iterations, *(slot.iterations for slot in slots))):
        raise NotUnderstood("the iterations of its LUKS header are absurd")
    return LuksHeader(HASHES[digest.rstrip(b"\0")], key_bytes, volume[0], volume[1], iterations, slots)


def _slots(area: bytes, key_bytes: int) -> Iterator[Slot]:
    for number in range(SLOTS):
        active, iterations, salt, offset, stripes = _SLOT.unpack_from(
            area, _HEADER.size + number * _SLOT.size
        )
        if active != ENABLED:
            continue
        if stripes != STRIPES or offset * SECTOR + key_bytes * STRIPES > len(area):
            raise NotUnderstood("a key slot of its LUKS header is malformed")
        yield Slot(iterations, salt, offset * SECTOR)


def unlock(area: bytes, key: bytes) -> bytes | None:
    """The volume's key; None if this key does not open it.

    :param area: the header with everything behind it
    :raise NotUnderstood: it is of a kind that is not understood here
    """
    header = parse(area)
    for slot in header.slots:
        derived = hashlib.pbkdf2_hmac(header.hash, key, slot.salt, slot.iterations, header.key_bytes)
        split = area[slot.offset : slot.offset + header.key_bytes * STRIPES]
        found = _join(Xts(derived).decrypt(split, 0), header.key_bytes, header.hash)
        if hmac.compare_digest(_digest(header, found), header.digest):
            return found
    return None


def _digest(header: LuksHeader, volume_key: bytes) -> bytes:
    iterations = header.digest_iterations
    return hashlib.pbkdf2_hmac(header.hash, volume_key, header.digest_salt, iterations, len(header.digest))


def fresh_volume_key() -> bytes:
    """A key that no volume has yet."""
    return secrets.token_bytes(KEY_BYTES)


def create(key: bytes, volume_key: bytes) -> bytes:
    """A header for a volume that this key opens; its length is that of the whole area.

    :param key: so random that nobody can guess it
    """
    slot_salt, digest_salt = secrets.token_bytes(32), secrets.token_bytes(32)
    hash_name = HASH.decode()
    derived = hashlib.pbkdf2_hmac(hash_name, key, slot_salt, ITERATIONS, KEY_BYTES)
    digest = hashlib.pbkdf2_hmac(hash_name, volume_key, digest_salt, ITERATIONS, 20)
    offsets = [FIRST_MATERIAL + number * _material_bytes() for number in range(SLOTS + 1)]
    area = bytearray(offsets[SLOTS])
    name = str(uuid.uuid4()).encode()
    _HEADER.pack_into(
        area, 0, MAGIC, VERSION, CIPHER, MODE, HASH, offsets[SLOTS] // SECTOR, KEY_BYTES, digest, digest_salt,
        ITERATIONS, name,
    )  # fmt: skip
    for number in range(SLOTS):
        facts = (ENABLED, ITERATIONS, slot_salt) if not number else (DISABLED, 0, b"")
        at = _HEADER.size + number * _SLOT.size
        _SLOT.pack_into(area, at, *facts, offsets[number] // SECTOR, STRIPES)
    split = Xts(derived).encrypt(_split(volume_key, hash_name), 0)
    area[offsets[0] : offsets[0] + len(split)] = split
    return bytes(area)


def _material_bytes() -> int:
    """A slot's key material, up to the next page."""
    return -(-KEY_BYTES * STRIPES // 4096) * 4096


def _split(key: bytes, hash_name: str) -> bytes:
    """Spread a key over so much random data that none of it can be left out (the anti-forensic splitter)."""
    stripes = secrets.token_bytes(len(key) * (STRIPES - 1))
    mixed = _mix(stripes, len(key), hash_name)
    return stripes + _xor(mixed, key)


def _join(split: bytes, length: int, hash_name: str) -> bytes:
    mixed = _mix(split[:-length], length, hash_name)
    return _xor(mixed, split[-length:])


def _mix(stripes: bytes, length: int, hash_name: str) -> bytes:
    mixed = bytes(length)
    for start in range(0, len(stripes), length):
        mixed = _diffuse(_xor(mixed, stripes[start : start + length]), hash_name)
    return mixed


def _diffuse(block: bytes, hash_name: str) -> bytes:
    size = hashlib.new(hash_name).digest_size
    parts = zip(count(), range(0, len(block), size), strict=False)
    hashed = (
        hashlib.new(hash_name, number.to_bytes(4, "big") + block[start : start + size]).digest()
        for number, start in parts
    )
    return b"".join(hashed)[: len(block)]


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(len(one), "big")
