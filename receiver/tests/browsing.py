# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody in front of a browser."""

from __future__ import annotations

from dataclasses import dataclass, field

from playwright.async_api import Page
from serving import Served, make_token

from livebackup_receiver.model import Role


@dataclass
class Visitor:
    """Somebody who looks at the page; ``complaints`` is what the browser said about it."""

    page: Page
    server: Served
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    async def log_in(self, role: Role = Role.READ) -> None:
        """Log in with a fresh token and arrive at the status page."""
        await self.enter(make_token(self.server.receiver.catalog, role))
        await self.page.wait_for_url(f"{self.server.url}/")

    async def enter(self, secret: str) -> None:
        """Give a token to the login page."""
        await self.page.goto(f"{self.server.url}/login")
        await self.page.get_by_label("Token").fill(secret)
        await self.page.get_by_role("button", name="Log in").click()

    async def mark(self) -> None:
        """Leave a mark in the page that does not survive a reload."""
        await self.page.evaluate("window.unloaded = false")

    async def reloaded(self) -> bool:
        return await self.page.evaluate("window.unloaded") is not False
