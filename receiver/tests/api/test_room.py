# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from sample_store import SampleStore, Write
from serving import Served, serving
from tls_files import TlsFiles

from livebackup_receiver.config import Config
from livebackup_receiver.daemon import open_receiver
from livebackup_receiver.decisions import drop_points
from livebackup_receiver.model import Role

DISK = ("db", "vd-a")


async def test_what_layers_take_and_what_comes_back_is_told(server: Served) -> None:
    receiver = server.receiver
    sample = SampleStore(receiver.store.root, receiver.catalog)
    made = [sample.add({DISK: [Write(0, 1 << 20, value)]}) for value in (1, 2)]
    drop_points(receiver.catalog, receiver.store, [made[0].id], now=datetime.now(UTC))
    async with server.client(Role.READ) as client:
        answer = await client.get("/api/v1/room")
    (volume,) = answer.json()["volumes"]
    assert volume["volume"] == str(receiver.store.root)
    assert volume["used_bytes"] >= 2 << 20
    assert 1 << 20 <= volume["freeable_bytes"] < volume["used_bytes"]
    assert volume["days_left"] > 0


async def test_a_volume_that_went_away_is_named(config: Config, tls: TlsFiles, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    more = config.model_copy(update={"volumes": [volume]})
    async with open_receiver(more) as receiver, serving(receiver, tls) as server:
        shutil.rmtree(volume)
        async with server.client(Role.READ) as client:
            room, figures = await client.get("/api/v1/room"), await client.get("/metrics")
    assert room.status_code == 500
    assert str(volume) in room.json()["error"]["message"]
    assert "livebackup_store_free_bytes" in figures.text
    assert 'volume="' not in figures.text
