# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A receiver that serves HTTPS in the test's own event loop, and clients for it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from tls_files import TlsFiles

from livebackup_receiver.catalog import tokens
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.daemon import listen, server_of
from livebackup_receiver.model import Role
from livebackup_receiver.state import Receiver


@dataclass
class Served:
    """A serving receiver: its address, and what a client needs to trust it."""

    receiver: Receiver
    url: str
    ca: Path

    @asynccontextmanager
    async def client(self, role: Role | None = Role.BACKUP) -> AsyncIterator[httpx.AsyncClient]:
        """A client with a fresh token of this role; None: without a token."""
        secret = make_token(self.receiver.catalog, role) if role else None
        async with client_for(self.url, self.ca, secret) as client:
            yield client


def make_token(catalog: Catalog, role: Role) -> str:
    """A new token's secret."""
    with catalog.write() as db:
        name = f"{role}-{len(tokens.every(db))}"
        return tokens.create(db, name=name, role=role, now=datetime.now(UTC))[1]


def client_for(url: str, ca: Path, secret: str | None) -> httpx.AsyncClient:
    """A client that trusts the receiver's certificate and shows a token."""
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    context = ssl.create_default_context(cafile=ca)
    return httpx.AsyncClient(base_url=url, verify=context, headers=headers, timeout=40, trust_env=False)


@asynccontextmanager
async def serving(receiver: Receiver, tls: TlsFiles) -> AsyncIterator[Served]:
    """Serve until the block ends."""
    server = server_of(receiver)
    with listen(receiver.config) as sock:
        task = asyncio.create_task(server.serve([sock]))
        try:
            yield Served(receiver, f"https://127.0.0.1:{sock.getsockname()[1]}", tls.certificate)
        finally:
            server.should_exit = True
            await task
