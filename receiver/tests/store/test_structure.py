# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest
from sample_store import run

from livebackup_receiver.store import structure
from livebackup_receiver.store.structure import is_sound

CLUSTER = 65536


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """A child layer with data, zeros, an L2 table far away, and a last cluster that is not whole."""
    run("qemu-img", "create", "-q", "-f", "qcow2", str(tmp_path / "parent.qcow2"), "4G")
    path = tmp_path / "child.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "parent.qcow2", "-F", "qcow2", str(path))
    for command in ("write -q -P 7 0 256k", "write -q -z 1M 1M", "write -q -P 9 3G 4k"):
        run("qemu-io", "-c", command, str(path))
    return path


def checked(path: Path) -> bool:
    """Whether ``qemu-img check`` finds nothing at all."""
    return (
        subprocess.run(["qemu-img", "check", "-q", str(path)], check=False, capture_output=True).returncode
        == 0
    )


def flip(path: Path, offset: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))


def test_a_layer_of_ours_is_sound(layer: Path) -> None:
    assert checked(layer)
    assert is_sound(layer)


def test_nothing_that_qemu_img_complains_of_is_sound(layer: Path) -> None:
    """Flipped bits in everything that is no guest data: header, tables, reference counts."""
    dice = random.Random(3)
    content = layer.read_bytes()
    filled = [at for at, byte in enumerate(content) if byte and byte not in (7, 9)]
    places = [*filled, *(dice.randrange(len(content)) for dummy in range(20))]
    complaints = 0
    for dummy in range(120):
        place, bit = dice.choice(places), dice.randrange(8)
        flip(layer, place, bit)
        if not checked(layer):
            complaints += 1
            assert not is_sound(layer), f"bit {bit} of byte {place}"
        layer.write_bytes(content)
    assert complaints > 20


def test_a_layer_cut_short_is_not_sound(layer: Path) -> None:
    with layer.open("r+b") as file:
        file.truncate(layer.stat().st_size - CLUSTER - 4096)
    assert not is_sound(layer)
    layer.write_bytes(b"")
    assert not is_sound(layer)


def test_what_is_not_of_our_kind_is_left_to_qemu_img(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "other.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4096", str(path), "1M")
    assert not is_sound(path)
    run("qemu-img", "create", "-q", "-f", "qcow2", str(path), "1M")
    assert is_sound(path)
    monkeypatch.setattr(structure, "SMALL_BYTES", 1000)
    assert not is_sound(path)
