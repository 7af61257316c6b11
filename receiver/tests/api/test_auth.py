# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from serving import Served, client_for

from livebackup_receiver.api import auth
from livebackup_receiver.catalog import tokens
from livebackup_receiver.model import Role

OPENING = {"group": "nightly", "hosts": ["hv1"]}
ID = "01JD7FZK3M4N5P6Q7R8S9T0V1W"
NOBODY, BACKUP, READ, RESTORE, MANAGE = None, Role.BACKUP, Role.READ, Role.RESTORE, Role.MANAGE
ALL, READERS = {BACKUP, READ, RESTORE, MANAGE}, {READ, RESTORE, MANAGE}
ROUTES = [
    ("GET", "/api/v1/sessions", ALL),
    ("GET", f"/api/v1/sessions/{ID}", ALL),
    ("POST", "/api/v1/sessions", {BACKUP}),
    ("POST", f"/api/v1/sessions/{ID}/abort", {BACKUP}),
    ("POST", f"/api/v1/sessions/{ID}/participants/hv1/steps", {BACKUP}),
    ("POST", "/api/v1/reconcile", {BACKUP}),
    ("GET", "/api/v1/points", READERS),
    ("GET", f"/api/v1/points/{ID}", READERS),
    ("POST", f"/api/v1/points/{ID}/exports", {RESTORE}),
    ("DELETE", f"/api/v1/exports/{ID}", {RESTORE}),
    ("POST", f"/api/v1/points/{ID}/leases", {RESTORE}),
    ("GET", "/api/v1/leases", READERS),
    ("GET", "/api/v1/groups", READERS),
    ("GET", "/api/v1/checks", READERS),
    ("GET", "/api/v1/room", READERS),
    ("GET", "/metrics", READERS),
    ("PUT", f"/api/v1/points/{ID}/pin", {MANAGE}),
    ("DELETE", f"/api/v1/points/{ID}/pin", {MANAGE}),
    ("PUT", f"/api/v1/points/{ID}/lock", {MANAGE}),
    ("DELETE", f"/api/v1/points/{ID}", {MANAGE}),
    ("GET", "/api/v1/policies", READERS),
    ("PUT", "/api/v1/policies/disk:db/vd-a", {MANAGE}),
    ("DELETE", "/api/v1/policies/disk:db/vd-a", {MANAGE}),
    ("GET", "/api/v1/groups/nightly/retention", READERS),
    ("GET", "/api/v1/groups/nightly/retention/simulation", READERS),
    ("POST", "/api/v1/groups/nightly/retention/simulation", READERS),
    ("POST", "/api/v1/retention/preview", READERS),
    ("POST", "/api/v1/groups/nightly/retention/apply", {MANAGE}),
]


@pytest.mark.parametrize("role", [NOBODY, BACKUP, READ, RESTORE, MANAGE])
async def test_each_role_may_do_its_own_work_and_nothing_else(server: Served, role: Role | None) -> None:
    async with server.client(role) as client:
        for method, path, allowed in ROUTES:
            answer = await client.request(method, path, json={} if method in ("POST", "PUT") else None)
            code = answer.json()["error"]["code"] if answer.status_code in (401, 403) else None
            expected = None if role in allowed else "token-invalid" if role is None else "role-denied"
            assert code == expected, (method, path, answer.text)


async def test_an_unknown_token_is_refused(server: Served) -> None:
    async with client_for(server.url, server.ca, "lb_guess") as client:
        answer = await client.get("/api/v1/sessions")
    assert answer.status_code == 401
    assert "the token is unknown, revoked or expired" in answer.json()["error"]["message"]


async def test_the_refusal_names_token_and_role(server: Served) -> None:
    async with server.client(Role.READ) as client:
        answer = await client.post("/api/v1/sessions", json=OPENING)
    assert answer.status_code == 403
    assert answer.json()["error"]["message"] == (
        "token read-0 has the role read, which may not do this; use a token with the role backup"
    )


async def test_other_schemes_are_no_tokens(server: Served) -> None:
    async with server.client(None) as client:
        answer = await client.get("/api/v1/sessions", headers={"Authorization": "Basic bGI6eA=="})
    assert answer.status_code == 401


async def test_a_revoked_token_stops_working_soon(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "CACHE_S", 0.0)
    async with server.client(Role.READ) as client:
        assert (await client.get("/api/v1/sessions")).status_code == 200
        with server.receiver.catalog.write() as db:
            tokens.revoke(db, "read-0")
        assert (await client.get("/api/v1/sessions")).status_code == 401


async def test_an_expired_token_is_refused_even_if_it_was_just_used(server: Served) -> None:
    with server.receiver.catalog.write() as db:
        soon = datetime.now(UTC) + timedelta(seconds=1)
        secret = tokens.create(db, name="t", role=Role.READ, now=datetime.now(UTC), expires_at=soon)[1]
    async with client_for(server.url, server.ca, secret) as client:
        while (await client.get("/api/v1/sessions")).status_code == 200:
            assert datetime.now(UTC) < soon + timedelta(seconds=1)
    assert datetime.now(UTC) >= soon


async def test_a_flood_of_guesses_is_not_remembered(server: Served) -> None:
    cache = auth.TokenCache(server.receiver.catalog)
    for number in range(100):
        assert await cache.find(f"lb_{number}") is None
    assert not cache._known
