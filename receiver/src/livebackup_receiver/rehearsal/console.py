# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The console of a guest, and of its BIOS: what it says is read all the time, and its end is kept."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from livebackup_receiver.background import in_background

KEPT_BYTES = 256 * 1024
# A pattern is looked for in the last of it only, and not with every byte.
SEARCHED_BYTES = 16 * 1024
LOOK_S = 0.1
CHUNK = 4096


class Console:
    """Made by ``open_console``."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._fresh = bytearray()
        self._more = asyncio.Event()

    @property
    def kept(self) -> bytes:
        """The end of all that was said."""
        return bytes(self._kept)

    async def shows(self, pattern: str) -> None:
        """Wait until a pattern is found."""
        wanted = re.compile(pattern)
        while True:
            self._more.clear()
            if wanted.search(self._fresh.decode(errors="replace")):
                return
            await self._more.wait()
            await asyncio.sleep(LOOK_S)

    async def follow(self, reader: asyncio.StreamReader) -> None:
        """Read until the machine has ended."""
        while chunk := await reader.read(CHUNK):
            for buffer, limit in ((self._kept, KEPT_BYTES), (self._fresh, SEARCHED_BYTES)):
                buffer += chunk
                del buffer[:-limit]
            self._more.set()


@asynccontextmanager
async def open_console(*channels: socket.socket) -> AsyncIterator[Console]:
    """What is said at the other ends of sockets, which are closed with the block."""
    console = Console()
    async with AsyncExitStack() as stack:
        for channel in channels:
            reader, writer = await asyncio.open_connection(sock=channel)
            await stack.enter_async_context(in_background(console.follow(reader), name="console"))
            stack.callback(writer.close)
        yield console
