# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Merging, adding to and punching random chains: whatever is left reads as it did, and is a sound image."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from file_systems import free_bytes
from random_chains import Chain, is_clean, make_chain, same_content
from waiting import until

from livebackup_receiver.chain import assembly, fold
from livebackup_receiver.chain.copying import Copier
from livebackup_receiver.chain.fold import Folded
from livebackup_receiver.chain.image import OFFSET, ZERO, Image, Numbers, Slots, open_image
from livebackup_receiver.chain.merge import Parent, append, merge
from livebackup_receiver.chain.punch import punch
from livebackup_receiver.errors import LayerDamaged, LayerUnsupported

SEEDS = range(24)
Method = Callable[[list[Path], "Parent | None", random.Random], None]


def into_new_file(layers: list[Path], parent: Parent | None, chance: random.Random) -> None:
    target = layers[-1].with_suffix(".tmp")
    merge(layers, target, parent=parent, copier=Copier(share=chance.random() < 0.7))
    target.rename(layers[-1])
    for layer in layers[:-1]:
        layer.unlink()


def into_lowest(layers: list[Path], parent: Parent | None, chance: random.Random) -> None:
    append(layers, parent=parent, copier=Copier(share=chance.random() < 0.7))
    layers[0].rename(layers[-1])
    for layer in layers[1:-1]:
        layer.unlink()


def by_holes(layers: list[Path], parent: Parent | None, chance: random.Random) -> None:
    for lower, upper in zip(layers[-2::-1], layers[:0:-1], strict=True):
        punch(lower, [upper])


METHODS: dict[str, Method] = {"new": into_new_file, "lowest": into_lowest, "punch": by_holes}


def consolidate(chain: Chain, method: Method, seed: int) -> list[int]:
    """Drop a random run of points; the numbers of those that are kept."""
    chance = random.Random(seed)
    first = chance.randint(0, len(chain.layers) - 2)
    top = chance.randint(first + 1, len(chain.layers) - 1)
    parent = None
    if first:
        with open_image(chain.layers[first - 1]) as below:
            parent = Parent(chain.layers[first - 1].name, below.virtual_size)
    method(chain.layers[first : top + 1], parent, chance)
    return [*range(first), *range(top, len(chain.layers))]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("method", METHODS)
def test_kept_points_stay_what_they_were(tmp_path: Path, method: str, seed: int) -> None:
    chain = make_chain(tmp_path, seed)
    if chain is None:
        return
    before = {path.name: path.read_bytes() for path in chain.layers}
    try:
        kept = consolidate(chain, METHODS[method], seed)
    except LayerUnsupported:
        # Refused before anything that anybody reads was touched: bytes behind an end do not count.
        assert all((tmp_path / name).read_bytes().startswith(old) for name, old in before.items())
        kept = list(range(len(chain.layers)))
        assert all(same_content(chain.layers[number], chain.copies[number]) for number in kept)
        return
    for number in kept:
        assert same_content(chain.layers[number], chain.copies[number]), number
        assert is_clean(chain.layers[number]), number


@pytest.mark.parametrize("seed", range(12))
def test_a_file_that_shares_extents_is_added_to_and_outlives_the_others(
    sharing_path: Path, seed: int
) -> None:
    chain = make_chain(sharing_path, seed)
    if chain is None:
        return
    first, *above = chain.layers
    try:
        merge([first, above[0]], sharing_path / "merged", parent=None, copier=Copier(share=True))
    except LayerUnsupported:
        return
    (sharing_path / "merged").rename(above[0])
    with suppress(LayerUnsupported):
        append(above[:2], parent=None, copier=Copier(share=True))
        above[0].rename(above[1])
    first.write_bytes(b"?" * first.stat().st_size)
    for layer, copy in zip(above[1:], chain.copies[2:], strict=True):
        assert same_content(layer, copy)
        assert is_clean(layer)


@pytest.mark.parametrize("seed", range(8))
def test_between_adding_and_renaming_every_point_reads_right(tmp_path: Path, seed: int) -> None:
    chain = make_chain(tmp_path, seed)
    if chain is None:
        return
    try:
        append(chain.layers[:2], parent=None, copier=Copier(share=False))
    except LayerUnsupported:
        return
    for layer, copy in list(zip(chain.layers, chain.copies, strict=True))[1:]:
        assert same_content(layer, copy)


def qemu(*argv: object) -> None:
    subprocess.run([str(each) for each in argv], check=True, capture_output=True, timeout=30)


def layer(directory: Path, number: int, size: str, *commands: str) -> Path:
    """A layer over the one before it, after these commands of qemu-io."""
    path = directory / f"p{number}.qcow2"
    backing = ["-b", f"p{number - 1}.qcow2", "-F", "qcow2"] if number else []
    qemu("qemu-img", "create", "-q", "-f", "qcow2", *backing, path, size)
    for command in commands:
        qemu("qemu-io", "-c", command, path)
    return path


def zeros_over_data(directory: Path) -> list[Path]:
    return [
        layer(directory, 0, "8M", "write -P 1 0 8M"),
        layer(directory, 1, "8M", "write -P 2 1M 64k"),
        layer(directory, 2, "8M", "write -z 2M 1M"),
    ]


def zeros_under_nothing(directory: Path) -> list[Path]:
    return [
        layer(directory, 0, "8M", "write -P 1 0 8M"),
        layer(directory, 1, "8M", "write -P 2 1M 1M"),
        layer(directory, 2, "8M", "write -z 1M 64k"),
    ]


def shrunk_and_grown(directory: Path) -> list[Path]:
    return [
        layer(directory, 0, "8M", "write -P 1 0 8M"),
        layer(directory, 1, "4M", "write -P 2 1M 64k"),
        layer(directory, 2, "8M", "write -P 3 5M 64k"),
    ]


def torn_end(directory: Path) -> list[Path]:
    paths = [
        layer(directory, 0, "1M", "write -P 1 0 1M"),
        layer(directory, 1, str((1 << 20) + 512), "write -P 2 1M 512"),
        layer(directory, 2, "2M"),
    ]
    with open_image(paths[1], writable=True) as image:
        for dummy, tables in image.batches():
            (place,) = tables[tables != 0] & OFFSET
            os.pwrite(image.descriptor, b"?" * 512, int(place) + 512)
    return paths


def merged_right(paths: list[Path]) -> bool:
    """Merge the upper two of three layers; whether the result reads as they did."""
    copy = paths[-1].with_suffix(".raw")
    qemu("qemu-img", "convert", "-O", "raw", paths[-1], copy)
    with open_image(paths[0]) as below:
        parent = Parent(paths[0].name, below.virtual_size)
    into_new_file(paths[1:], parent, random.Random(0))
    return same_content(paths[-1], copy)


def without_zeros(self: assembly.Assembly, folded: Folded) -> None:
    entries = folded.entries.copy()
    entries[folded.every.zero] = 0
    add(self, Folded(folded.slots, folded.entries_per_table, entries, folded.source))


def forget_short_layers(layer: Image, top: Image, slots: Slots, tables: Numbers | None) -> Numbers | None:
    return tables


def nothing_to_clear(self: assembly.Assembly, gathered: fold.Entries, entries: Numbers) -> None:
    return


add = assembly.Assembly.add


RULES = {
    "zero flags are carried": (zeros_over_data, assembly.Assembly, "add", without_zeros),
    "zeros mask": (zeros_under_nothing, fold, "held", lambda entries: (entries & ~ZERO) != 0),
    "short layers end in zeros": (shrunk_and_grown, fold, "zero_past_end", forget_short_layers),
    "torn ends are cleared": (torn_end, assembly.Assembly, "_clear_past_ends", nothing_to_clear),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_holds_and_would_be_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    """With the rule the merged layer is right; without it, it is wrong, so tests like these would notice."""
    make, where, name, mutation = RULES[rule]
    (tmp_path / "kept").mkdir()
    assert merged_right(make(tmp_path / "kept"))
    monkeypatch.setattr(where, name, mutation)
    monkeypatch.setattr("livebackup_receiver.chain.merge.check_fold", lambda layers, merged: None)
    (tmp_path / "broken").mkdir()
    assert not merged_right(make(tmp_path / "broken"))


def test_the_proof_before_the_rename_catches_a_lost_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly.Assembly, "add", without_zeros)
    with pytest.raises(LayerDamaged, match="its tables are not those of the layers"):
        merged_right(zeros_over_data(tmp_path))
    assert not (tmp_path / "p2.tmp").exists()


def test_sharing_and_copying_count_what_they_move(tmp_path: Path) -> None:
    chain = make_chain(tmp_path, 3)
    assert chain
    copier = Copier(share=False)
    merge(chain.layers, tmp_path / "merged", parent=None, copier=copier)
    assert copier.shared_bytes == 0
    assert copier.copied_bytes >= (tmp_path / "merged").stat().st_blocks * 512 // 2


async def test_where_extents_are_shared_no_data_move(sharing_path: Path) -> None:
    layers = [
        layer(sharing_path, 0, "64M", "write -P 1 0 32M"),
        layer(sharing_path, 1, "64M", "write -P 2 16M 32M"),
    ]
    before, copier = free_bytes(sharing_path), Copier(share=True)
    merge(layers, sharing_path / "merged", parent=None, copier=copier)
    assert copier.shared_bytes == 48 << 20
    assert copier.copied_bytes < 1 << 20

    async def takes_little() -> bool:
        return before - free_bytes(sharing_path) < 2 << 20

    # what XFS reserves for a growing file it gives back a little later
    await until(takes_little)
