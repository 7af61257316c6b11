# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from nbd_client import qemu_io
from two_hosts import daemons

from livebackup_receiver.errors import CommandFailed, StorageDaemonFailed
from livebackup_receiver.storage_daemon.credentials import key_file
from livebackup_receiver.storage_daemon.exports import export_server
from livebackup_receiver.storage_daemon.intake import Intake, open_intake
from livebackup_receiver.storage_daemon.layers import NewLayer, flush_layers
from livebackup_receiver.storage_daemon.ports import PortRange
from livebackup_receiver.store.integrity import check_layer
from livebackup_receiver.subprocesses import run

KEY = ("db", "vd-a")
SIZE = 64 << 20


async def fill(layer: NewLayer, *commands: str, close: bool = True) -> None:
    """Make a layer, write to it over NBD, and close it as a session does."""
    ports = PortRange(range(21300, 21399))
    async with open_intake({KEY: layer}, session="1", ports=ports, listen="127.0.0.1") as intake:
        await qemu_io(intake.transport, intake.names[KEY], *commands)
        if close:
            await intake.flush([KEY], timeout_s=30)
            await intake.close()


async def info(path: Path) -> dict[str, Any]:
    done = await run(["qemu-img", "info", "-f", "qcow2", "--output=json", str(path)], timeout_s=20)
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


@pytest.fixture
async def intake(tmp_path: Path) -> AsyncIterator[Intake]:
    layer = NewLayer(tmp_path / "layer.partial", SIZE, None)
    ports = PortRange(range(21300, 21399))
    async with open_intake({KEY: layer}, session="1", ports=ports, listen="127.0.0.1") as intake:
        yield intake


async def test_a_full_layer_stands_alone(tmp_path: Path) -> None:
    await fill(NewLayer(tmp_path / "full.partial", SIZE, None), "write -P 5 1M 1M")
    facts = await info(tmp_path / "full.partial")
    assert (facts["virtual-size"], facts["cluster-size"]) == (SIZE, 65536)
    assert "backing-filename" not in facts
    assert await check_layer(tmp_path / "full.partial") == 0


async def test_a_layer_names_its_parent_without_a_directory(tmp_path: Path) -> None:
    parent = tmp_path / "parent.qcow2"
    await fill(NewLayer(parent, SIZE, None), "write -P 5 0 1M")
    await fill(NewLayer(tmp_path / "child.partial", SIZE, parent), "read -P 5 0 1M", "write -P 6 512k 64k")
    facts = await info(tmp_path / "child.partial")
    assert (facts["backing-filename"], facts["backing-filename-format"]) == ("parent.qcow2", "qcow2")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in (parent, tmp_path / "child.partial"):
        path.rename(moved / path.name)
    read = ["-c", "read -P 5 0 512k", "-c", "read -P 6 512k 64k"]
    await run(["qemu-io", "-r", "-f", "qcow2", *read, str(moved / "child.partial")], timeout_s=20)


async def test_zeros_that_are_sent_take_no_space(tmp_path: Path) -> None:
    parent = tmp_path / "parent.qcow2"
    await fill(NewLayer(parent, SIZE, None), "write -P 5 0 8M")
    child = tmp_path / "child.partial"
    await fill(NewLayer(child, SIZE, parent), "write -P 0 0 8M")
    assert child.stat().st_blocks * 512 < 1 << 20
    await run(["qemu-io", "-r", "-f", "qcow2", "-c", "read -P 0 0 8M", str(child)], timeout_s=20)


async def test_the_key_is_for_nobody_else(intake: Intake) -> None:
    key = key_file(intake.daemon.directory)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert intake.transport.psk_key in key.read_text()


async def test_an_abandoned_intake_leaves_no_daemon(tmp_path: Path) -> None:
    await fill(NewLayer(tmp_path / "layer.partial", SIZE, None), "write -P 5 0 1M", close=False)
    assert await daemons() == []


async def test_a_flush_that_hangs_is_given_up(intake: Intake) -> None:
    os.kill(intake.daemon.process.pid, signal.SIGSTOP)
    with pytest.raises(StorageDaemonFailed, match=r"flush its layers: not done after 0\.5 seconds"):
        await intake.flush([KEY], timeout_s=0.5)


async def test_a_flush_proves_nothing_without_its_daemon(intake: Intake) -> None:
    os.kill(intake.daemon.process.pid, signal.SIGKILL)
    with pytest.raises(StorageDaemonFailed, match="could not flush its layers"):
        await intake.flush([KEY], timeout_s=30)


async def test_a_disk_that_fails_at_the_flush_is_noticed(tmp_path: Path) -> None:
    """What was written is in no cache that a closed node would empty in silence."""
    layer = NewLayer(tmp_path / "layer.partial", SIZE, None)
    await run(["qemu-img", "create", "-f", "qcow2", str(layer.path), str(SIZE)], timeout_s=20)
    broken = {
        "driver": "blkdebug",
        "node-name": "layer-0-file",
        "image": {"driver": "file", "filename": str(layer.path)},
        "inject-error": [{"event": "none", "iotype": "flush", "errno": 5}],
    }
    ports = PortRange(range(21300, 21399))
    async with export_server("session 1", ports=ports, listen="127.0.0.1", user="test") as server:
        await server.daemon.execute(
            "blockdev-add", {"driver": "qcow2", "node-name": "layer-0", "file": broken}
        )
        with suppress(CommandFailed):
            name = await server.add("layer-0", writable=True)
            await qemu_io(server.transport, name, "write -P 5 1M 1M")
        await server.close()
        with pytest.raises(StorageDaemonFailed, match="Input/output error"):
            await flush_layers(server.daemon, {"layer-0": layer}, timeout_s=30)


async def test_layers_of_one_kind_are_made_as_copies(tmp_path: Path) -> None:
    parent = tmp_path / "parent.qcow2"
    await fill(NewLayer(parent, SIZE, None), "write -P 5 0 1M")
    layers = {
        ("db", f"vd-{number}"): NewLayer(tmp_path / f"{number}.partial", SIZE, parent) for number in range(3)
    }
    ports = PortRange(range(21300, 21399))
    async with open_intake(layers, session="1", ports=ports, listen="127.0.0.1") as intake:
        for number, key in enumerate(layers):
            await qemu_io(intake.transport, intake.names[key], f"write -P {number + 10} 0 64k")
        await intake.flush(list(layers), timeout_s=30)
        await intake.close()
    for number, layer in enumerate(layers.values()):
        assert await check_layer(layer.path) == 0
        read = ["-c", f"read -P {number + 10} 0 64k", "-c", "read -P 5 64k 64k"]
        await run(["qemu-io", "-r", "-f", "qcow2", *read, str(layer.path)], timeout_s=20)


async def test_a_missing_parent_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageDaemonFailed, match=r"none\.qcow2"):
        await fill(NewLayer(tmp_path / "child.partial", SIZE, tmp_path / "none.qcow2"), "read 0 64k")
    assert await daemons() == []
