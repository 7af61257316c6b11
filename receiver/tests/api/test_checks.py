# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks over the API."""

from __future__ import annotations

from pathlib import Path

from sample_store import SampleStore, Write
from serving import Served

from livebackup_receiver.model import Role


async def test_every_check_tells_its_state(server: Served) -> None:
    async with server.client(Role.READ) as client:
        checks = (await client.get("/api/v1/checks")).json()["checks"]
    assert {check["state"] for check in checks} == {"ok"}
    assert {"store", "catalog", "qemu-img"} <= {check["name"] for check in checks}


async def test_a_lost_layer_is_found_and_degrades_the_health(server: Served, tmp_path: Path) -> None:
    store = SampleStore(server.receiver.store.root, server.receiver.catalog)
    store.layer(store.add({("db", "vd-a"): [Write(0, 1024, 1)]})).unlink()
    async with server.client(Role.READ) as client:
        checks = {check["name"]: check for check in (await client.get("/api/v1/checks")).json()["checks"]}
        health = (await client.get("/api/v1/health")).json()
    assert checks["layers"]["state"] == "failed"
    assert "is missing" in checks["layers"]["message"]
    assert health["status"] == "degraded"


async def test_the_health_needs_no_token(server: Served) -> None:
    async with server.client(None) as client:
        health = (await client.get("/api/v1/health")).json()
    assert health == {"status": "ok", "version": "0.1.0", "api_version": 1}
