# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chains with encrypted layers: merged, added to, punched and read, they hold what they held."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from encrypted_layers import KEY, OTHER_KEY, RING, copy_of, is_clean, make_layer, reads_as

from livebackup_receiver import convert
from livebackup_receiver.chain.copying import Copier
from livebackup_receiver.chain.image import open_image
from livebackup_receiver.chain.keyring import Keyring, using
from livebackup_receiver.chain.merge import Parent, append, merge
from livebackup_receiver.chain.punch import punch
from livebackup_receiver.convert import Format
from livebackup_receiver.errors import KeyMissing, LayerUnsupported
from livebackup_receiver.store.digests import read_chain, read_table, root_of, write_table
from livebackup_receiver.store.paths import DIGESTS_SUFFIX

KIB, MIB = 1 << 10, 1 << 20
SIZES = (4 * MIB, 4 * MIB, 5 * MIB + 3 * 512, 8 * MIB + 512)
SECRET = b"WXYZ" * 1024


@pytest.fixture(autouse=True)
def keys() -> object:
    with using(RING):
        yield


def commands(chance: random.Random, size: int) -> list[str]:
    """Some of what guests do; the last sectors of the disk are always written."""
    found = [f"write -P {chance.randint(1, 255)} {size - 1024} 1024"]
    for dummy in range(12):
        offset = 512 * chance.randrange(size // 512 - 512)
        length = 512 * chance.randint(1, 400)
        verb = chance.choice(("write -P 77", "write -P 88", "write -z", "discard"))
        found.append(f"{verb} {offset} {length}")
    return found


def make_chain(directory: Path, seed: int, locked: tuple[bool, ...] = (True,) * 4) -> list[Path]:
    """Four layers of a disk that grows to an odd size, and a raw copy of each point beside them."""
    chance = random.Random(seed)
    layers = [
        make_layer(directory, number, size, *commands(chance, size), locked=locked[number])
        for number, size in enumerate(SIZES)
    ]
    for layer in layers:
        copy_of(layer)
    return layers


def require_same(*layers: Path) -> None:
    for layer in layers:
        assert reads_as(layer, layer.with_suffix(".raw")), layer
        assert is_clean(layer), layer


def parent_of(layer: Path) -> Parent:
    with open_image(layer) as image:
        return Parent(layer.name, image.virtual_size)


def is_locked(layer: Path) -> bool:
    with open_image(layer) as image:
        return image.luks is not None


MIXED = [
    (True, True, True, True),
    (False, True, True, True),
    (True, False, False, True),
    (True, True, False, False),
]


@pytest.mark.parametrize("locked", MIXED)
@pytest.mark.parametrize("seed", range(2))
def test_merged_into_a_new_file(tmp_path: Path, seed: int, locked: tuple[bool, ...]) -> None:
    layers = make_chain(tmp_path, seed, locked)
    target = tmp_path / "merged.tmp"
    merge(layers[1:3], target, parent=parent_of(layers[0]), copier=Copier(share=True))
    assert is_locked(target) == any(locked[1:3])
    target.rename(layers[2])
    layers[1].unlink()
    require_same(layers[0], layers[2], layers[3])


@pytest.mark.parametrize("seed", range(4))
def test_added_to_the_lowest(tmp_path: Path, seed: int) -> None:
    layers = make_chain(tmp_path, seed, (True, True, False, True))
    append(layers[1:3], parent=parent_of(layers[0]), copier=Copier(share=True))
    # as long as nobody has renamed it, all points are right
    require_same(layers[0], layers[3])
    layers[1].rename(layers[2])
    assert reads_as(layers[2], layers[2].with_suffix(".raw"))
    require_same(layers[0], layers[3])


def test_what_was_encrypted_is_not_added_to_a_plain_file(tmp_path: Path) -> None:
    layers = make_chain(tmp_path, 1, (True, False, True, True))
    before = layers[1].read_bytes()
    with pytest.raises(LayerUnsupported, match="it is plain"):
        append(layers[1:3], parent=parent_of(layers[0]), copier=Copier(share=True))
    assert layers[1].read_bytes().startswith(before)


def test_nothing_of_a_secret_gets_into_a_merged_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET * 16)
    layers = [
        make_layer(tmp_path, 0, MIB, f"write -s {secret} 0 64k"),
        make_layer(tmp_path, 1, MIB, "write -P 1 128k 64k", locked=False),
    ]
    target = tmp_path / "merged.tmp"
    merge(layers, target, parent=None, copier=Copier(share=True))
    assert b"WXYZWXYZ" not in target.read_bytes()
    assert bytes([1]) * KIB not in target.read_bytes()


def test_a_merge_without_the_key_touches_nothing(tmp_path: Path) -> None:
    layers = make_chain(tmp_path, 1)
    before = [layer.read_bytes() for layer in layers]
    with using(Keyring((OTHER_KEY,))), pytest.raises(KeyMissing):
        merge(layers[:2], tmp_path / "merged.tmp", parent=None, copier=Copier(share=True))
    with using(Keyring(())), pytest.raises(KeyMissing):
        append(layers[:2], parent=None, copier=Copier(share=True))
    assert [layer.read_bytes() for layer in layers] == before
    assert not (tmp_path / "merged.tmp").exists()


def test_what_is_masked_is_freed_without_any_key(tmp_path: Path) -> None:
    lower = make_layer(tmp_path, 0, 4 * MIB, "write -P 1 0 2M")
    upper = make_layer(tmp_path, 1, 4 * MIB, "write -P 2 0 1M")
    copy_of(upper)
    with using(Keyring(())):
        assert punch(lower, [upper]) >= MIB - 64 * KIB
    assert reads_as(upper, upper.with_suffix(".raw"))


@pytest.mark.parametrize("format", Format)
@pytest.mark.parametrize("locked", MIXED[:3])
def test_a_restored_disk_is_plain_and_proven(
    tmp_path: Path, locked: tuple[bool, ...], format: Format
) -> None:
    layers = make_chain(tmp_path, 3, locked)
    for layer in layers:
        write_table(layer, layer.with_suffix(DIGESTS_SUFFIX))
    target = tmp_path / f"restored.{format}"
    convert.write(layers[::-1], target, format)
    convert.verify(layers[::-1], target, format)
    copy = layers[3].with_suffix(".raw")
    if format is Format.RAW:
        assert target.read_bytes() == copy.read_bytes()
    else:
        assert not is_locked(target)
        assert reads_as(target, copy)


def test_digests_are_those_of_the_plain_content(tmp_path: Path) -> None:
    roots = []
    for locked in (True, False):
        directory = tmp_path / str(locked)
        directory.mkdir()
        layers = make_chain(directory, 5, (locked,) * 4)
        tables = [layer.with_suffix(DIGESTS_SUFFIX) for layer in layers]
        for layer, table in zip(layers, tables, strict=True):
            write_table(layer, table)
        roots.append(root_of(read_chain(tables)))
        assert len(read_table(tables[0]).index)
    assert roots[0] == roots[1]


def test_both_of_two_keys_are_tried(tmp_path: Path) -> None:
    layer = make_layer(tmp_path, 0, MIB, "write -P 5 0 64k")
    with using(Keyring((OTHER_KEY, KEY))):
        convert.write([layer], tmp_path / "restored.raw", Format.RAW)
    assert (tmp_path / "restored.raw").read_bytes().startswith(bytes([5]) * 65536)


def test_a_layer_that_ends_within_a_sector_is_refused(tmp_path: Path) -> None:
    """QEMU makes none, and a part of a sector cannot be cleared without decrypting it."""
    layers = [
        make_layer(tmp_path, 0, MIB + 512, f"write -P 1 {MIB} 512"),
        make_layer(tmp_path, 1, 2 * MIB, "write -P 2 0 64k"),
    ]
    with layers[0].open("r+b") as file:
        file.seek(24)
        file.write((MIB + 100).to_bytes(8, "big"))
    with pytest.raises(LayerUnsupported, match="within a sector"):
        merge(layers, tmp_path / "merged.tmp", parent=None, copier=Copier(share=True))
    assert not (tmp_path / "merged.tmp").exists()
