# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""LUKS headers and AES-XTS, against the library's and QEMU's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from encrypted_layers import KEY, OTHER_KEY, RING, is_clean, make_by_qemu, make_layer, write_io

from livebackup_receiver.chain import luks
from livebackup_receiver.chain.blank import write_blank
from livebackup_receiver.chain.image import open_image
from livebackup_receiver.chain.keyring import Keyring, cipher_of, using
from livebackup_receiver.chain.xts import SECTOR, Xts
from livebackup_receiver.errors import KeyMissing, LayerDamaged, LayerUnsupported

MIB = 1 << 20


@pytest.mark.parametrize("key_bytes", [32, 64])
@pytest.mark.parametrize("first", [0, 7, (1 << 32) - 1, 1 << 51])
def test_sectors_are_encrypted_as_the_library_does(key_bytes: int, first: int) -> None:
    key, plain = os.urandom(key_bytes), os.urandom(3 * SECTOR)
    expected = b""
    for number in range(3):
        tweak = (first + number).to_bytes(16, "little")
        context = Cipher(algorithms.AES(key), modes.XTS(tweak)).encryptor()
        expected += context.update(plain[number * SECTOR : (number + 1) * SECTOR]) + context.finalize()
    assert Xts(key).encrypt(plain, first) == expected
    assert Xts(key).decrypt(expected, first) == plain


def test_a_header_opens_with_its_key_only() -> None:
    volume_key = luks.fresh_volume_key()
    area = luks.create(KEY, volume_key)
    assert luks.unlock(area, KEY) == volume_key
    assert luks.unlock(area, OTHER_KEY) is None


def test_no_two_headers_have_the_same_volume_key() -> None:
    assert luks.unlock(RING.new_header(), KEY) != luks.unlock(RING.new_header(), KEY)


def test_qemus_header_is_opened(tmp_path: Path) -> None:
    layer = tmp_path / "p0.qcow2"
    make_by_qemu(layer, MIB)
    write_io(layer, "write -P 7 64k 64k")
    with using(RING), open_image(layer) as image:
        cipher, table = cipher_of(image), image.l2(image.slots())
        assert cipher is not None
        assert table is not None
        place = int(table[0, 1]) & 0x00FF_FFFF_FFFF_FE00
        stored = os.pread(image.descriptor, 65536, place)
    assert stored != bytes([7]) * 65536
    assert cipher.decrypt(stored, place // SECTOR) == bytes([7]) * 65536


@pytest.mark.parametrize("size", [512, MIB, 5 << 40])
def test_qemu_opens_and_fills_our_blank_layer(tmp_path: Path, size: int) -> None:
    layer = tmp_path / "p0.qcow2"
    write_blank(layer, virtual_size=size, parent=None, area=RING.new_header())
    write_io(layer, "read -P 0 0 512", f"write -P 9 {size - 512} 512", f"read -P 9 {size - 512} 512")
    assert is_clean(layer)
    assert layer.stat().st_blocks * 512 < MIB


def damage(area: bytes, at: int, content: bytes) -> bytes:
    return area[:at] + content + area[at + len(content) :]


SLOT = 208
HOSTILE = {
    "no header": (0, b"SKUL"),
    "another version": (6, b"\0\2"),
    "another mode": (40, b"cbc-plain64\0"),
    "another hash": (72, b"md5\0"),
    "an absurd key": (108, b"\xff\xff\xff\xff"),
    "endless iterations": (SLOT + 4, b"\xff\xff\xff\xff"),
    "endless iterations of the digest": (164, b"\xff\xff\xff\xff"),
    "a slot outside": (SLOT + 40, b"\xff\xff\xff\xff"),
    "another number of stripes": (SLOT + 44, b"\0\0\0\1"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_refused_at_once(name: str) -> None:
    with pytest.raises(luks.NotUnderstood):
        luks.unlock(damage(RING.new_header(), *HOSTILE[name]), KEY)


def test_without_its_key_a_layer_is_named(tmp_path: Path) -> None:
    layer = make_layer(tmp_path, 0, MIB)
    with using(Keyring((OTHER_KEY,))), open_image(layer) as image, pytest.raises(KeyMissing) as refusal:
        cipher_of(image)
    assert refusal.value.path == str(layer)


def test_a_header_of_another_kind_is_named(tmp_path: Path) -> None:
    layer = make_layer(tmp_path, 0, MIB)
    with open_image(layer) as image:
        assert image.luks is not None
        place = image.luks.offset
    with layer.open("r+b") as file:
        file.seek(place + 40)
        file.write(b"cbc-essiv\0")
    with using(RING), open_image(layer) as image, pytest.raises(LayerUnsupported, match="in another way"):
        cipher_of(image)


def test_a_header_past_the_end_of_the_file_is_damage(tmp_path: Path) -> None:
    layer = make_layer(tmp_path, 0, MIB)
    os.truncate(layer, 1 << 18)
    with pytest.raises(LayerDamaged), open_image(layer):
        pass


# Of the header extension that says where the LUKS header lies: its kind, and offset and length.
ABSURD = {
    "missing": (112, bytes(8)),
    "past the end": (120, (1 << 60).to_bytes(8, "big")),
    "not at a cluster": (120, (65536 + 512).to_bytes(8, "big")),
    "endless": (128, (1 << 40).to_bytes(8, "big")),
    "empty": (128, bytes(8)),
}


@pytest.mark.parametrize("name", ABSURD)
def test_an_absurd_place_of_the_header_is_damage(tmp_path: Path, name: str) -> None:
    layer = make_layer(tmp_path, 0, MIB)
    at, content = ABSURD[name]
    with layer.open("r+b") as file:
        file.seek(at)
        file.write(content)
    with pytest.raises(LayerDamaged, match="LUKS header"), open_image(layer):
        pass


def test_a_method_that_is_out_of_use_is_refused(tmp_path: Path) -> None:
    layer = make_layer(tmp_path, 0, MIB)
    with layer.open("r+b") as file:
        file.seek(32)
        file.write((1).to_bytes(4, "big"))
    with pytest.raises(LayerUnsupported, match="nobody should use"), open_image(layer):
        pass
