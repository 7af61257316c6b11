# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import os

import pytest
from serving import Served
from sqlalchemy.exc import OperationalError

from livebackup_receiver.api.app import ErrorBody
from livebackup_receiver.coordinator.registry import LiveSessions


async def test_every_error_has_the_same_shape(server: Served) -> None:
    async with server.client() as client:
        for method, path, body, status, code in (
            ("GET", "/api/v1/sessions/01X", None, 404, "session-unknown"),
            ("GET", "/api/v1/nothing", None, 404, "route-unknown"),
            ("DELETE", "/api/v1/sessions", None, 405, "route-unknown"),
            ("POST", "/api/v1/sessions", {"group": "nightly"}, 422, "body-invalid"),
            ("POST", "/api/v1/sessions", {"group": "../x", "hosts": ["hv1"]}, 422, "body-invalid"),
            ("GET", "/api/v1/sessions?limit=0", None, 422, "body-invalid"),
        ):
            answer = await client.request(method, path, json=body)
            error = ErrorBody.model_validate(answer.json()).error
            assert (answer.status_code, error.code) == (status, code), path
            assert error.message.endswith(error.remedy)


async def test_a_bad_body_is_located(server: Served) -> None:
    async with server.client() as client:
        answer = await client.post("/api/v1/sessions", json={"group": "nightly", "hosts": ["hv1"], "x": 1})
    assert answer.json()["error"]["message"].startswith("body.x: Extra inputs are not permitted;")


async def test_a_mistake_of_our_own_is_told_without_its_details(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistake(self: LiveSessions, session_id: str) -> None:
        raise ZeroDivisionError("division of the secret by zero")

    monkeypatch.setattr(LiveSessions, "get", mistake)
    async with server.client() as client:
        answer = await client.get("/api/v1/sessions/01X")
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal"
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("failure", "status", "code", "message"),
    [
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            500,
            "store-failed",
            "the store {root} cannot be used: No space left on device;",
        ),
        (
            OperationalError("INSERT", {}, Exception("disk I/O error")),
            503,
            "catalog-failed",
            "disk I/O error",
        ),
    ],
)
async def test_a_disk_that_fails_is_named(
    server: Served, monkeypatch: pytest.MonkeyPatch, failure: Exception, status: int, code: str, message: str
) -> None:
    def fail(self: LiveSessions, session_id: str) -> None:
        raise failure

    monkeypatch.setattr(LiveSessions, "get", fail)
    async with server.client() as client:
        answer = await client.get("/api/v1/sessions/01X")
    error = ErrorBody.model_validate(answer.json()).error
    assert (answer.status_code, error.code) == (status, code)
    assert message.format(root=server.receiver.store.root) in error.message


async def test_the_openapi_document_is_served(server: Served) -> None:
    async with server.client(None) as client:
        document = (await client.get("/openapi.json")).json()
    assert document["info"]["title"] == "Livebackup receiver"
    assert "/api/v1/sessions/{session_id}/participants/{host}/steps" in document["paths"]
