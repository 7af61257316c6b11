# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from random_chains import make_chain

from livebackup_receiver.chain import flat
from livebackup_receiver.chain.copying import Copier
from livebackup_receiver.chain.merge import open_layers


@pytest.mark.parametrize("seed", range(16))
def test_a_chain_reads_as_qemu_reads_it(tmp_path: Path, seed: int) -> None:
    chain = make_chain(tmp_path, seed)
    if chain is None:
        return
    written = tmp_path / "written"
    with open_layers(chain.layers) as layers, written.open("x+b", buffering=0) as file:
        size = layers[-1].virtual_size
        flat.write_raw(flat.extents(layers), size, file, copier=Copier(share=True))
    assert written.stat().st_size == size
    # qemu-img pads a raw copy to whole sectors
    assert written.read_bytes() == chain.copies[-1].read_bytes()[:size]


def test_zeros_take_no_room(tmp_path: Path) -> None:
    layer = tmp_path / "layer.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(layer), "1T"], check=True)
    subprocess.run(["qemu-io", "-c", "write -q -P 7 500G 1M", str(layer)], check=True, capture_output=True)
    with open_layers([layer]) as layers, (tmp_path / "written").open("x+b", buffering=0) as file:
        flat.write_raw(flat.extents(layers), 1 << 40, file, copier=Copier(share=False))
    assert (tmp_path / "written").stat().st_size == 1 << 40
    assert (tmp_path / "written").stat().st_blocks * 512 < 4 << 20


def test_a_raw_file_is_read_without_its_holes(tmp_path: Path) -> None:
    path = tmp_path / "raw"
    with path.open("wb") as file:
        file.truncate(10 << 20)
        file.seek(5 << 20)
        file.write(b"x" * 70_000)
    with path.open("rb") as file:
        found = list(flat.file_extents(file.fileno(), 10 << 20))
    assert sum(extent.length for extent in found) < 80_000
    assert found[0].offset == 5 << 20
