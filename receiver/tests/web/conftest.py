# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real browser on a receiver that really serves."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest
from browsing import Visitor
from playwright.async_api import BrowserContext, async_playwright, expect
from serving import Served

expect.set_options(timeout=30_000)


@pytest.fixture
async def browser(server: Served) -> AsyncIterator[BrowserContext]:
    """The distribution's Chromium, without the errors of a self-signed certificate.

    It is closed before the server, which would wait for its connections.
    """
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        yield await chromium.new_context(ignore_https_errors=True)
        await chromium.close()


@pytest.fixture
async def visitor(browser: BrowserContext, server: Served) -> AsyncIterator[Visitor]:
    """A browser window; a test fails if the page asks another host or the browser complains."""
    page = await browser.new_page()
    visitor = Visitor(page, server)
    page.on(
        "console",
        lambda message: visitor.complaints.append(message.text) if message.type == "error" else None,
    )
    page.on("pageerror", lambda error: visitor.complaints.append(str(error)))
    page.on("request", lambda request: visitor.requests.append(request.url))
    yield visitor
    assert visitor.complaints == []
    assert [url for url in visitor.requests if not url.startswith(f"{server.url}/")] == []
