# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from livebackup_receiver.errors import CommandFailed, LayerDamaged
from livebackup_receiver.store.integrity import check_layer
from livebackup_receiver.subprocesses import run

CLUSTER = 65536


async def make_layer(path: Path) -> Path:
    """A qcow2 file with one cluster of data."""
    await run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "4M"], timeout_s=20)
    await run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 64k", str(path)], timeout_s=20)
    return path


async def test_a_whole_layer_is_clean(tmp_path: Path) -> None:
    assert await check_layer(await make_layer(tmp_path / "layer")) == 0


async def test_a_corrupt_layer_is_damaged(tmp_path: Path) -> None:
    layer = await make_layer(tmp_path / "layer")
    with layer.open("r+b") as file:
        # The refcount block, third cluster of a new image: nothing is in use any more.
        file.seek(2 * CLUSTER)
        file.write(bytes(CLUSTER))
    with pytest.raises(LayerDamaged, match=r"qemu-img check finds [1-9]"):
        await check_layer(layer)


async def test_leaked_clusters_are_counted_and_forgiven(tmp_path: Path) -> None:
    layer = await make_layer(tmp_path / "layer")
    with layer.open("r+b") as file:
        # A cluster behind the last one, and its refcount.
        file.truncate(101 * CLUSTER)
        file.seek(2 * CLUSTER + 2 * 100)
        file.write(b"\0\1")
    assert await check_layer(layer) == 1


async def test_what_is_no_layer_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "layer").write_bytes(b"x" * 1000)
    with pytest.raises(CommandFailed, match="Image is not in qcow2 format"):
        await check_layer(tmp_path / "layer")
