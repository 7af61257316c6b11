# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nbd_client import plain_qemu_io, qemu_io

from livebackup_receiver.errors import CommandFailed, LayerDamaged, NoPortFree
from livebackup_receiver.storage_daemon.exports import ReadOnlyExports, export_layers, export_server
from livebackup_receiver.storage_daemon.ports import PortRange
from livebackup_receiver.subprocesses import run

PORTS = range(21200, 21299)


@pytest.fixture
async def chain(tmp_path: Path) -> Path:
    """A layer on top of another one; the first cluster is of the lower, the second of the upper."""
    base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"
    await run(["qemu-img", "create", "-q", "-f", "qcow2", str(base), "4M"], timeout_s=20)
    await run(["qemu-io", "-f", "qcow2", "-c", "write -P 1 0 128k", str(base)], timeout_s=20)
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", str(top)]
    await run(create, timeout_s=20)
    await run(["qemu-io", "-f", "qcow2", "-c", "write -P 2 64k 64k", str(top)], timeout_s=20)
    return top


@pytest.fixture
async def exports(chain: Path) -> AsyncIterator[ReadOnlyExports]:
    async with serve({"vd-a": chain}) as exports:
        yield exports


@asynccontextmanager
async def serve(files: dict[str, Path], ports: range = PORTS) -> AsyncIterator[ReadOnlyExports]:
    async with export_server(
        "export 1", ports=PortRange(ports), listen="127.0.0.1", user="export-1"
    ) as server:
        yield await export_layers(server, files)


READ = ("read -P 1 0 64k", "read -P 2 64k 64k", "read -P 0 1M 64k")


async def test_a_chain_is_read_through_tls(exports: ReadOnlyExports) -> None:
    await qemu_io(exports.transport, exports.names["vd-a"], *READ, read_only=True)


async def test_nothing_can_be_written(exports: ReadOnlyExports) -> None:
    with pytest.raises(CommandFailed, match=r"read-only|write-protected|Permission denied"):
        await qemu_io(exports.transport, exports.names["vd-a"], "write 0 64k")


async def test_a_wrong_key_is_refused(exports: ReadOnlyExports) -> None:
    wrong = exports.transport.model_copy(update={"psk_key": "00" * 32})
    with pytest.raises(CommandFailed, match="TLS handshake failed"):
        await qemu_io(wrong, exports.names["vd-a"], *READ, read_only=True)


async def test_no_tls_is_refused(exports: ReadOnlyExports) -> None:
    with pytest.raises(CommandFailed, match="TLS"):
        await plain_qemu_io(exports.transport, exports.names["vd-a"], *READ)


async def test_an_export_needs_its_name(exports: ReadOnlyExports) -> None:
    with pytest.raises(CommandFailed, match="export 'vd-a' not present"):
        await qemu_io(exports.transport, "vd-a", *READ, read_only=True)


async def test_keys_and_names_are_fresh_each_time(chain: Path) -> None:
    async with serve({"vd-a": chain}) as first, serve({"vd-a": chain}) as second:
        assert first.transport.psk_key != second.transport.psk_key
        assert first.transport.port != second.transport.port
        assert first.names["vd-a"] != second.names["vd-a"]
        assert len(first.names["vd-a"]) == 32


async def test_a_port_of_another_program_is_passed_over(chain: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        async with serve({"vd-a": chain}, range(port, port + 2)) as exports:
            assert exports.transport.port == port + 1


async def test_no_port_left_is_an_error(chain: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(NoPortFree, match="every port of nbd_ports is in use"):
            async with serve({"vd-a": chain}, range(port, port + 1)):
                pass


async def test_a_missing_layer_is_an_error(chain: Path) -> None:
    chain.with_name("base.qcow2").unlink()
    with pytest.raises(LayerDamaged, match=r"base\.qcow2"):
        async with serve({"vd-a": chain}):
            pass
