# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stream of changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from hypervisor import open_session
from serving import Served

from livebackup_receiver.model import Role


@asynccontextmanager
async def stream(client: httpx.AsyncClient) -> AsyncIterator[AsyncIterator[str]]:
    """The lines of the stream, from when the receiver has connected it."""
    async with client.stream("GET", "/api/v1/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.aiter_lines()
        assert await anext(lines) == ": connected"
        yield lines


async def next_change(lines: AsyncIterator[str]) -> dict[str, str | None]:
    async with asyncio.timeout(10):
        async for line in lines:
            if line.startswith("data: "):
                change: dict[str, str | None] = json.loads(line.removeprefix("data: "))
                return change
    raise AssertionError("the stream has ended")


async def test_changes_of_a_session_are_told_as_they_happen(server: Served) -> None:
    async with (
        server.client(Role.READ) as reader,
        server.client(Role.BACKUP) as backup,
        stream(reader) as lines,
    ):
        session = await open_session(backup, ["hv1"])
        assert await next_change(lines) == {
            "id": session,
            "group": "nightly",
            "state": "joining",
            "reason": None,
            "alarm": None,
        }
        await backup.post(f"/api/v1/sessions/{session}/abort", json={"reason": "not now"})
        change = await next_change(lines)
    assert change["state"] == "aborted"
    assert "not now" in (change["reason"] or "")


async def test_each_event_has_its_name(server: Served) -> None:
    async with (
        server.client(Role.READ) as reader,
        server.client(Role.BACKUP) as backup,
        stream(reader) as lines,
    ):
        await open_session(backup, ["hv1"])
        names = [line async for line in _until_data(lines) if line.startswith("event: ")]
    assert names == ["event: session"]


async def _until_data(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    async for line in lines:
        yield line
        if line.startswith("data: "):
            return


async def test_the_stream_needs_a_token(server: Served) -> None:
    async with server.client(None) as client:
        assert (await client.get("/api/v1/events")).status_code == 401
