# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An export is read on while its point is dropped, and layers around it are merged and punched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from nbd_client import qemu_io
from sample_store import KIB, SampleStore, Write
from serving import Served

from livebackup_receiver.model import Role, Transport

DB = ("db", "vd-a")


async def test_a_reader_sees_its_point_to_the_end(server: Served) -> None:
    root = server.receiver.store.root
    sample = SampleStore(root, server.receiver.catalog)
    points = [sample.add({DB: [Write(0, 256 * KIB, number + 1)]}) for number in range(4)]
    layers = [sample.layer(point) for point in points]
    before = [layer.stat().st_blocks for layer in layers]

    def freed(number: int) -> int:
        return (before[number] - layers[number].stat().st_blocks) * 512

    async with server.client(Role.RESTORE) as reader, server.client(Role.MANAGE) as manager:
        wanted = {"vm": "db"}
        made = (await reader.post(f"/api/v1/points/{points[1].id}/exports", json=wanted)).json()
        await read(made, "read -P 2 0 64k")
        for point in points[:3]:
            assert (await manager.delete(f"/api/v1/points/{point.id}")).status_code == 204
        # What nobody reads any more goes at once; what the export reads stays.
        await until(lambda: freed(2) == 256 * KIB)
        assert freed(1) == 0
        await read(made, "read -P 2 0 64k", "read -P 2 64k 192k")
        answer = await reader.post(f"/api/v1/points/{points[1].id}/exports", json=wanted)
        assert answer.json()["error"]["code"] == "point-unknown"
        assert (await reader.delete(f"/api/v1/exports/{made['id']}")).status_code == 204
        server.receiver.consolidator.wake()
        await until(lambda: freed(1) == 256 * KIB)


async def read(made: dict[str, Any], *commands: str) -> None:
    """Read the export by a real NBD client, which fails if anything is wrong."""
    transport = Transport.model_validate(made["transport"])
    done = await qemu_io(transport, made["disks"][0]["export"], *commands, read_only=True)
    assert "failed" not in done.stdout


async def until(seen: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not seen():  # noqa: ASYNC110 - a file does not tell us
            await asyncio.sleep(0.05)
