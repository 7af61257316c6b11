# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the page's routes answer, without a browser: headers, redirects, refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from serving import Served, make_token

from livebackup_receiver.model import Role

BROWSER = {"Accept": "text/html"}


@pytest.fixture
async def stranger(server: Served) -> AsyncIterator[httpx.AsyncClient]:
    """A client that has no cookie."""
    async with server.client(None) as client:
        yield client


@pytest.fixture
async def reader(server: Served, stranger: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client that has logged in."""
    token = make_token(server.receiver.catalog, Role.READ)
    await stranger.post("/login", data={"token": token})
    return stranger


@pytest.mark.parametrize("path", ["/", "/login", "/status/points", "/points/x", "/static/page.css"])
async def test_every_answer_forbids_foreign_content_and_framing(reader: httpx.AsyncClient, path: str) -> None:
    headers = (await reader.get(path, headers=BROWSER)).headers
    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


async def test_pages_are_not_kept_by_the_browser(reader: httpx.AsyncClient) -> None:
    assert (await reader.get("/")).headers["cache-control"] == "no-store"


async def test_assets_are_sent_again_only_when_they_have_changed(reader: httpx.AsyncClient) -> None:
    first = await reader.get("/static/page.css")
    again = await reader.get("/static/page.css", headers={"If-None-Match": first.headers["etag"]})
    assert (first.status_code, again.status_code) == (200, 304)


async def test_a_person_is_redirected_to_the_login(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.get("/", headers=BROWSER)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/status/points", BROWSER | {"HX-Request": "true"}), ("/live", {"Accept": "text/event-stream"})],
)
async def test_scripts_are_told_where_the_login_is(
    stranger: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    answer = await stranger.get(path, headers=headers)
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/login")


async def test_a_bearer_token_is_no_login(server: Served) -> None:
    async with server.client(Role.READ) as client:
        assert (await client.get("/", headers=BROWSER)).status_code == 303


async def test_the_cookie_of_the_page_opens_no_api(reader: httpx.AsyncClient) -> None:
    assert (await reader.get("/api/v1/points")).status_code == 401


async def test_a_section_that_does_not_exist(reader: httpx.AsyncClient) -> None:
    assert (await reader.get("/status/secrets")).status_code == 404


@pytest.mark.parametrize(
    "path", ["/static/missing.css", "/static/..%2fpages.py", "/static/%2e%2e/%2e%2e/config.py"]
)
async def test_only_the_assets_are_served(stranger: httpx.AsyncClient, path: str) -> None:
    assert (await stranger.get(path)).status_code == 404


async def test_an_empty_login_is_refused(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.post("/login", data={})
    assert answer.status_code == 401
    assert "this needs a token" in answer.text
