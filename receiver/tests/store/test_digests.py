# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digest tables of real layers against what qemu-img reads from the same chain."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from blake3 import blake3
from sample_store import read_image, run

from livebackup_receiver.errors import DigestsInvalid, LayerUnsupported
from livebackup_receiver.store import digests

CLUSTER = 65536
ODD_SIZE = 40 * CLUSTER + 4608


def make_layer(folder: Path, name: str, size: int, *commands: str, parent: str | None = None) -> Path:
    path = folder / f"{name}.qcow2"
    backing = ["-b", f"{parent}.qcow2", "-F", "qcow2"] if parent else []
    run("qemu-img", "create", "-q", "-f", "qcow2", *backing, str(path), str(size))
    for command in commands:
        run("qemu-io", "-f", "qcow2", "-c", command, str(path))
    digests.write_table(path, path.with_suffix(".digests"))
    return path


def digests_of(content: bytes) -> list[bytes]:
    """What a chain's digests must be, made the plain way."""
    pieces = [content[at : at + CLUSTER].ljust(CLUSTER, b"\0") for at in range(0, len(content), CLUSTER)]
    return [blake3(piece).digest() if any(piece) else digests.ZERO for piece in pieces]


def composed(layers: Sequence[Path]) -> list[bytes]:
    tables = digests.read_chain([layer.with_suffix(".digests") for layer in layers])
    return [row.tobytes() for row in digests.compose(tables, 0, tables[-1].clusters)]


def unframed(data: bytes) -> tuple[dict[int, bytes], int]:
    found: dict[int, bytes] = {}
    while True:
        first, count = struct.unpack_from("<QI", data)
        rows = data[12 : 12 + 32 * count]
        data = data[12 + 32 * count :]
        if not count:
            assert data == b""
            return found, first
        found |= {first + number: rows[32 * number : 32 * (number + 1)] for number in range(count)}


def test_data_zeros_and_holes_of_one_layer(tmp_path: Path) -> None:
    layer = make_layer(
        tmp_path,
        "full",
        ODD_SIZE,
        f"write -P 1 0 {3 * CLUSTER}",
        f"write -P 0 {CLUSTER} {CLUSTER}",
        f"write -P 2 {9 * CLUSTER + 512} 512",
        f"write -P 3 {40 * CLUSTER} 4608",
        f"write -z {20 * CLUSTER} {CLUSTER}",
    )
    assert composed([layer]) == digests_of(read_image(layer, "qcow2", tmp_path))


def test_an_increment_masks_its_parent_also_with_zeros(tmp_path: Path) -> None:
    full = make_layer(tmp_path, "full", ODD_SIZE, f"write -P 1 0 {ODD_SIZE}")
    increment = make_layer(
        tmp_path,
        "increment",
        ODD_SIZE,
        f"write -z {CLUSTER} {2 * CLUSTER}",
        f"write -P 5 {8 * CLUSTER} {CLUSTER}",
        parent="full",
    )
    assert composed([full, increment]) == digests_of(read_image(increment, "qcow2", tmp_path))


@pytest.mark.parametrize("seed", range(6))
def test_any_chain_on_a_growing_disk(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    chain: list[Path] = []
    size = ODD_SIZE
    for number in range(4):
        commands = []
        while draw.random() < 0.75:
            start = draw.randrange(size // 512) * 512
            length = min(draw.choice((512, CLUSTER, 3 * CLUSTER)), size - start)
            commands.append(f"write {draw.choice(('-z', '-P 0', '-P 1', '-P 2'))} {start} {length}")
        parent = chain[-1].stem if chain else None
        chain.append(make_layer(tmp_path, f"layer{number}", size, *commands, parent=parent))
        assert composed(chain) == digests_of(read_image(chain[-1], "qcow2", tmp_path))
        size += draw.randrange(3) * CLUSTER // 2


def test_the_api_s_frames_leave_zeros_out_and_say_where_the_disk_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "CLUSTERS_AT_ONCE", 7)
    layer = make_layer(
        tmp_path,
        "full",
        ODD_SIZE,
        f"write -P 1 {5 * CLUSTER} {4 * CLUSTER}",
        f"write -P 2 {30 * CLUSTER} 512",
    )
    found, clusters = unframed(b"".join(digests.frames([digests.read_table(layer.with_suffix(".digests"))])))
    expected = digests_of(read_image(layer, "qcow2", tmp_path))
    assert clusters == len(expected)
    assert found == {number: digest for number, digest in enumerate(expected) if any(digest)}


@pytest.mark.parametrize("place", [0, 9, 17, 25, 33, 70, 200])
def test_a_table_with_a_flipped_bit_is_refused(tmp_path: Path, place: int) -> None:
    table = make_layer(tmp_path, "full", ODD_SIZE, f"write -P 1 0 {9 * CLUSTER}").with_suffix(".digests")
    content = bytearray(table.read_bytes())
    content[place] ^= 4
    table.write_bytes(content)
    with pytest.raises(DigestsInvalid, match=f"{table.name} cannot be used"):
        digests.read_chain([table])


def test_a_shortened_table_is_refused(tmp_path: Path) -> None:
    table = make_layer(tmp_path, "full", ODD_SIZE, f"write -P 1 0 {9 * CLUSTER}").with_suffix(".digests")
    for length in (0, 20, 64, 300):
        table.write_bytes(table.read_bytes()[:length])
        with pytest.raises(DigestsInvalid):
            digests.read_table(table)
    table.unlink()
    with pytest.raises(DigestsInvalid, match="No such file"):
        digests.read_table(table)


def test_a_chain_that_shrinks_is_refused(tmp_path: Path) -> None:
    full = make_layer(tmp_path, "full", ODD_SIZE, f"write -P 1 0 {ODD_SIZE}")
    smaller = make_layer(tmp_path, "smaller", ODD_SIZE - CLUSTER, parent="full")
    with pytest.raises(DigestsInvalid, match="shrunk"):
        composed([full, smaller])


@pytest.mark.parametrize("options", ["cluster_size=131072", "extended_l2=on", "compat=0.10"])
def test_layers_of_other_kinds_are_refused(tmp_path: Path, options: str) -> None:
    path = tmp_path / "other.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, str(path), str(ODD_SIZE))
    with pytest.raises(LayerUnsupported, match=r"other\.qcow2 is of a kind"):
        digests.write_table(path, tmp_path / "other.digests")
    assert [each.name for each in tmp_path.iterdir()] == ["other.qcow2"]


def test_compressed_clusters_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "packed.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", str(path), str(ODD_SIZE))
    run("qemu-io", "-c", f"write -c -P 1 0 {CLUSTER}", str(path))
    with pytest.raises(LayerUnsupported, match="compressed"):
        digests.write_table(path, tmp_path / "packed.digests")
