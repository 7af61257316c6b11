# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports: points read by real NBD clients over TLS-PSK."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from damaging import flip
from exported_disks import client_options, read_disk
from sample_store import KIB, SampleStore, Write
from serving import Served, serving
from tls_files import TlsFiles

from livebackup_receiver import subprocesses
from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.config import Config
from livebackup_receiver.daemon import open_receiver
from livebackup_receiver.errors import CommandFailed
from livebackup_receiver.model import Point, Role
from livebackup_receiver.scrub.act import Scrubbed, scrub_layer

DISK = ("db", "vd-a")


@pytest.fixture
def store(server: Served) -> SampleStore:
    return SampleStore(server.receiver.store.root, server.receiver.catalog)


@pytest.fixture
def point(store: SampleStore) -> Point:
    """A point whose disk has a chain of two layers, and a second disk of one."""
    store.add({DISK: [Write(0, 256 * KIB, 1)]})
    return store.add({DISK: [Write(64 * KIB, 64 * KIB, 2)], ("db", "vd-b"): [Write(0, KIB, 9)]})


async def export(client: httpx.AsyncClient, point: str, **body: Any) -> dict[str, Any]:
    answer = await client.post(f"/api/v1/points/{point}/exports", json={"vm": "db", **body})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_an_export_has_the_content_of_the_point(
    server: Served, store: SampleStore, point: Point, tmp_path: Path
) -> None:
    async with server.client(Role.RESTORE) as client:
        made = await export(client, point.id)
        assert [disk["disk"] for disk in made["disks"]] == ["vd-a", "vd-b"]
        assert await read_disk(made, tmp_path) == store.content[DISK]


async def test_only_the_disks_that_are_asked_for_are_served(server: Served, point: Point) -> None:
    async with server.client(Role.RESTORE) as client:
        made = await export(client, point.id, disks=["vd-b"])
    assert [disk["disk"] for disk in made["disks"]] == ["vd-b"]


async def test_an_export_cannot_be_written(server: Served, point: Point, tmp_path: Path) -> None:
    async with server.client(Role.RESTORE) as client:
        credentials, target = client_options(await export(client, point.id), tmp_path / "keys")
        argv = ["qemu-io", "--object", credentials, "--image-opts", target, "-c", "write 0 512"]
        with pytest.raises(CommandFailed, match="Permission denied"):
            await subprocesses.run(argv, timeout_s=30)


async def test_the_key_of_one_export_opens_no_other(server: Served, point: Point, tmp_path: Path) -> None:
    async with server.client(Role.RESTORE) as client:
        first, second = await export(client, point.id), await export(client, point.id)
        with pytest.raises(CommandFailed, match="TLS"):
            await read_disk(second, tmp_path, key=first["transport"]["psk_key"])


async def test_a_deleted_export_is_gone(server: Served, point: Point, tmp_path: Path) -> None:
    async with server.client(Role.RESTORE) as client:
        made = await export(client, point.id)
        assert (await client.delete(f"/api/v1/exports/{made['id']}")).status_code == 204
        with pytest.raises(CommandFailed, match="refused"):
            await read_disk(made, tmp_path)
        again = await client.delete(f"/api/v1/exports/{made['id']}")
    assert (again.status_code, again.json()["error"]["code"]) == (404, "export-unknown")


async def test_an_export_that_nobody_reads_ends_by_itself(config: Config, tls: TlsFiles) -> None:
    short = config.model_copy(update={"export_ttl_s": 0.5})
    async with open_receiver(short) as receiver, serving(receiver, tls) as server:
        made_point = SampleStore(receiver.store.root, receiver.catalog).add({DISK: [Write(0, KIB, 1)]})
        async with server.client(Role.RESTORE) as client:
            made = await export(client, made_point.id)
            await _gone(made["transport"]["port"])


async def test_an_export_that_is_read_again_and_again_lives_on(
    config: Config, tls: TlsFiles, tmp_path: Path
) -> None:
    short = config.model_copy(update={"export_ttl_s": 3.0})
    async with open_receiver(short) as receiver, serving(receiver, tls) as server:
        store = SampleStore(receiver.store.root, receiver.catalog)
        made_point = store.add({DISK: [Write(0, 1024 * KIB, 1)]})
        async with server.client(Role.RESTORE) as client:
            made = await export(client, made_point.id)
            started = asyncio.get_running_loop().time()
            while asyncio.get_running_loop().time() < started + 2 * short.export_ttl_s:
                assert await read_disk(made, tmp_path) == store.content[DISK]


async def test_every_export_ends_with_the_receiver(config: Config, tls: TlsFiles) -> None:
    async with open_receiver(config) as receiver, serving(receiver, tls) as server:
        made_point = SampleStore(receiver.store.root, receiver.catalog).add({DISK: [Write(0, KIB, 1)]})
        async with server.client(Role.RESTORE) as client:
            made = await export(client, made_point.id)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", made["transport"]["port"])


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"vm": "mail"}, 404, "vm-unknown"),
        ({"vm": "db", "disks": ["vd-z"]}, 404, "disk-unknown"),
        ({"vm": "db", "disks": []}, 422, "body-invalid"),
        ({"vm": "db", "writable": True}, 422, "body-invalid"),
        ({}, 422, "body-invalid"),
    ],
)
async def test_a_wrong_request_is_refused(
    server: Served, point: Point, body: dict[str, Any], status: int, code: str
) -> None:
    async with server.client(Role.RESTORE) as client:
        answer = await client.post(f"/api/v1/points/{point.id}/exports", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_a_point_that_does_not_exist_cannot_be_exported(server: Served) -> None:
    async with server.client(Role.RESTORE) as client:
        answer = await client.post("/api/v1/points/01BX5ZZKBKACTAV9WEVGEMMVRZ/exports", json={"vm": "db"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "point-unknown")


async def test_a_missing_layer_is_named_instead_of_served(
    server: Served, store: SampleStore, point: Point
) -> None:
    store.layer(point).unlink()
    async with server.client(Role.RESTORE) as client:
        answer = await client.post(f"/api/v1/points/{point.id}/exports", json={"vm": "db"})
    assert answer.json()["error"]["code"] == "layer-damaged"
    assert point.id in answer.json()["error"]["message"]


@pytest.mark.parametrize(("role", "status"), [(None, 401), (Role.READ, 403), (Role.BACKUP, 403)])
async def test_only_the_role_restore_may_export(
    server: Served, point: Point, role: Role | None, status: int
) -> None:
    async with server.client(role) as client:
        assert (
            await client.post(f"/api/v1/points/{point.id}/exports", json={"vm": "db"})
        ).status_code == status
        assert (await client.delete("/api/v1/exports/x")).status_code == status


async def _gone(port: int) -> None:
    """Wait until nobody listens on a port."""
    while True:
        try:
            dummy, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return
        writer.close()
        await asyncio.sleep(0.05)


async def test_what_is_known_to_be_damaged_is_not_served(
    server: Served, store: SampleStore, point: Point
) -> None:
    flip(store.layer(point, disk="vd-b"), 0)
    scrubbed = Scrubbed("db", "vd-b", point.id, server.receiver.store, server.receiver.catalog)
    scrub_layer(scrubbed, at_once, now=datetime.now(UTC))
    async with server.client(Role.RESTORE) as client:
        refused = await client.post(f"/api/v1/points/{point.id}/exports", json={"vm": "db"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "point-damaged")
        assert "disk vd-b of VM db is damaged" in refused.json()["error"]["message"]
        assert await export(client, point.id, disks=["vd-a"])
