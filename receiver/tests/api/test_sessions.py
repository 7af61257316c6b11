# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from hypervisor import open_session
from serving import Served

from livebackup_receiver.catalog.sessions import load_session
from livebackup_receiver.config import Config
from livebackup_receiver.store.room import free_bytes


async def test_opening_is_durable_when_it_answers(server: Served) -> None:
    async with server.client() as client:
        answer = await client.post("/api/v1/sessions", json={"group": "nightly", "hosts": ["hv1", "hv2"]})
        assert answer.status_code == 201
        session = answer.json()
    with server.receiver.catalog.read() as db:
        assert load_session(db, session["id"]).model_dump(mode="json") == session
    assert (session["state"], session["policy"], session["consistency"]) == ("joining", "all", "crash")
    assert session["transitions"][0] == {
        "at": session["opened_at"],
        "subject": "session",
        "from": None,
        "to": "joining",
        "reason": None,
    }


async def test_sessions_are_listed_newest_first_running_or_not(server: Served) -> None:
    async with server.client() as client:
        first = await open_session(client, ["hv1"])
        await client.post(f"/api/v1/sessions/{first}/abort", json={"reason": "make way"})
        second = await open_session(client, ["hv1"])
        other = await open_session(client, ["hv1"], group="weekly")

        async def listed(query: str) -> list[str]:
            answer = await client.get(f"/api/v1/sessions{query}")
            return [session["id"] for session in answer.json()["sessions"]]

        assert await listed("") == [other, second, first]
        assert await listed("?state=open") == [other, second]
        assert await listed("?state=ended") == [first]
        assert await listed("?group=nightly") == [second, first]
        assert await listed("?group=nightly&limit=1") == [second]


@pytest.mark.parametrize(
    "body",
    [
        {"hosts": []},
        {"hosts": ["hv1", "hv1"]},
        {"hosts": ["hv 1"]},
        {"hosts": ["hv1"], "policy": "some"},
        {"hosts": ["hv1"], "stop_budget_s": 0},
        {"hosts": ["hv1"], "join_timeout_s": -1},
    ],
)
async def test_an_opening_that_makes_no_sense_is_refused(server: Served, body: dict[str, Any]) -> None:
    async with server.client() as client:
        answer = await client.post("/api/v1/sessions", json={"group": "nightly"} | body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "body-invalid")
        assert (await client.get("/api/v1/sessions")).json() == {"sessions": []}


async def test_ids_grow(server: Served) -> None:
    async with server.client() as client:
        ids = [await open_session(client, ["hv1"], group=f"group{number}") for number in range(5)]
    assert ids == sorted(ids)


class TestFullStore:
    @pytest.fixture
    def config(self, config: Config) -> Config:
        """A receiver that must leave more free than there is."""
        return config.model_copy(update={"min_free_bytes": free_bytes(config.store) + (1 << 40)})

    async def test_no_session_is_opened(self, server: Served) -> None:
        async with server.client() as client:
            answer = await client.post("/api/v1/sessions", json={"group": "nightly", "hosts": ["hv1"]})
        assert answer.status_code == 507
        assert answer.json()["error"]["code"] == "store-full"
        assert str(server.receiver.config.store) in answer.json()["error"]["message"]
