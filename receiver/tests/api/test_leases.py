# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases over the API: their own secret opens exports, and nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from exported_disks import read_disk
from sample_store import KIB, SampleStore, Write
from serving import Served, client_for, serving
from tls_files import TlsFiles

from livebackup_receiver.config import Config
from livebackup_receiver.daemon import open_receiver
from livebackup_receiver.model import Point, Role

DISK = ("db", "vd-a")


@pytest.fixture
def store(server: Served) -> SampleStore:
    return SampleStore(server.receiver.store.root, server.receiver.catalog)


@pytest.fixture
def point(store: SampleStore) -> Point:
    store.add({DISK: [Write(0, 256 * KIB, 1)]})
    return store.add({DISK: [Write(64 * KIB, 64 * KIB, 2)], ("db", "vd-b"): [Write(0, KIB, 9)]})


async def take(client: httpx.AsyncClient, point: str, **body: Any) -> dict[str, Any]:
    answer = await client.post(
        f"/api/v1/points/{point}/leases", json={"vm": "db", "holder": "hv1", "disks": ["vd-a"], **body}
    )
    assert answer.status_code == 201, answer.text
    taken: dict[str, Any] = answer.json()
    return taken


async def gone(port: int) -> None:
    """Wait until nobody listens there any more."""
    async with asyncio.timeout(30):
        while True:
            try:
                dummy, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return
            writer.close()
            await asyncio.sleep(0.05)


async def test_the_secret_opens_one_export_after_the_other(
    server: Served, store: SampleStore, point: Point, tmp_path: Path
) -> None:
    async with server.client(Role.RESTORE) as client:
        lease = await take(client, point.id)
    async with client_for(server.url, server.ca, lease["secret"]) as holder:
        first = (await holder.post(f"/api/v1/leases/{lease['id']}/exports")).json()
        assert [disk["disk"] for disk in first["disks"]] == ["vd-a"]
        second = (await holder.post(f"/api/v1/leases/{lease['id']}/exports")).json()
        await gone(first["transport"]["port"])
        assert await read_disk(second, tmp_path) == store.content[DISK]
        for method, path in (("GET", "/points"), ("POST", f"/points/{point.id}/exports"), ("GET", "/leases")):
            refused = await holder.request(method, f"/api/v1{path}", json={"vm": "db"})
            assert refused.status_code == 401
        assert (await holder.delete(f"/api/v1/leases/{lease['id']}")).status_code == 204
        await gone(second["transport"]["port"])
        again = await holder.post(f"/api/v1/leases/{lease['id']}/exports")
    assert (again.status_code, again.json()["error"]["code"]) == (404, "lease-unknown")


async def test_nobody_else_may_use_or_end_a_lease(server: Served, point: Point) -> None:
    async with server.client(Role.RESTORE) as client:
        lease, other = await take(client, point.id), await take(client, point.id)
        assert (await client.post(f"/api/v1/leases/{lease['id']}/exports")).status_code == 401
    for secret, status in ((other["secret"], 401), (None, 401)):
        async with client_for(server.url, server.ca, secret) as stranger:
            assert (await stranger.post(f"/api/v1/leases/{lease['id']}/exports")).status_code == status
            assert (await stranger.delete(f"/api/v1/leases/{lease['id']}")).status_code == status
    async with server.client(Role.READ) as reader:
        assert (await reader.delete(f"/api/v1/leases/{lease['id']}")).status_code == 403
        listed = (await reader.get("/api/v1/leases")).json()["leases"]
    assert [each["id"] for each in listed] == [lease["id"], other["id"]]
    assert "secret" not in str(listed)
    async with server.client(Role.MANAGE) as manager:
        assert (await manager.delete(f"/api/v1/leases/{lease['id']}")).status_code == 204


async def test_a_leased_point_cannot_be_dropped(server: Served, store: SampleStore, point: Point) -> None:
    store.add({DISK: [Write(0, KIB, 5)]})
    async with server.client(Role.RESTORE) as client, server.client(Role.MANAGE) as manager:
        lease = await take(client, point.id)
        refused = await manager.delete(f"/api/v1/points/{point.id}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "point-kept")
        assert "in use by an instant restore of db on hv1" in refused.json()["error"]["message"]
        assert (await client.delete(f"/api/v1/leases/{lease['id']}")).status_code == 204
        assert (await manager.delete(f"/api/v1/points/{point.id}")).status_code == 204


async def test_a_lease_outlives_the_receiver(config: Config, tls: TlsFiles, tmp_path: Path) -> None:
    async with open_receiver(config) as receiver, serving(receiver, tls) as server:
        sample = SampleStore(receiver.store.root, receiver.catalog)
        point = sample.add({DISK: [Write(0, KIB, 1)]})
        async with server.client(Role.RESTORE) as client:
            lease = await take(client, point.id)
    async with (
        open_receiver(config) as receiver,
        serving(receiver, tls) as server,
        client_for(server.url, server.ca, lease["secret"]) as holder,
    ):
        made = (await holder.post(f"/api/v1/leases/{lease['id']}/exports")).json()
        assert await read_disk(made, tmp_path) == sample.content[DISK]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"vm": "mail", "holder": "hv1"}, 404, "vm-unknown"),
        ({"vm": "db", "holder": "hv1", "disks": ["vd-z"]}, 404, "disk-unknown"),
        ({"vm": "db", "holder": ""}, 422, "body-invalid"),
        ({"vm": "db"}, 422, "body-invalid"),
    ],
)
async def test_a_wrong_request_is_refused(
    server: Served, point: Point, body: dict[str, Any], status: int, code: str
) -> None:
    async with server.client(Role.RESTORE) as client:
        answer = await client.post(f"/api/v1/points/{point.id}/leases", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
