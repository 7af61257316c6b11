# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's agent (QGA). A hostile guest may be in its place: whatever it says is only taken for words."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

LONGEST_LINE = 1 << 20
SYNC_S = 5.0
POLL_S = 0.2


class AgentFailed(Exception):
    """The agent refuses, or says what cannot be understood; str() says what."""


class Agent:
    """One connection, which is there before the agent is; made by ``open_agent``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._turn = asyncio.Lock()

    async def answers(self) -> None:
        """Wait until it does (``guest-sync-delimited``).

        :raise AgentFailed: what is there is no agent
        """
        asked: set[int] = set()
        while True:
            asked.add(number := secrets.randbits(31))
            await self._send("guest-sync-delimited", {"id": number})
            try:
                async with asyncio.timeout(SYNC_S):
                    while (await self._read()).get("return") not in asked:
                        pass
                    return
            except TimeoutError:
                pass

    async def run(self, argv: Sequence[str]) -> int:
        """Run a program in the guest (``guest-exec``); its exit code.

        :raise AgentFailed: it cannot be run, or was killed
        """
        async with self._turn:
            started = await self._execute("guest-exec", {"path": argv[0], "arg": list(argv[1:])})
            while True:
                status = await self._execute("guest-exec-status", {"pid": started.get("pid")})
                if status.get("exited") is True:
                    break
                await asyncio.sleep(POLL_S)
        code = status.get("exitcode")
        if not isinstance(code, int):
            raise AgentFailed(f"it was killed by signal {status.get('signal')}")
        return code

    async def _execute(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        await self._send(command, arguments)
        while True:
            answer = await self._read()
            if isinstance(error := answer.get("error"), dict):
                raise AgentFailed(str(error.get("desc")))
            # Answers to what was asked before the agent ran are numbers.
            if isinstance(found := answer.get("return"), dict):
                return found

    async def _send(self, command: str, arguments: dict[str, Any]) -> None:
        self._writer.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")

    async def _read(self) -> dict[str, Any]:
        """:raise AgentFailed: the connection has ended, or it is no line of an agent"""
        try:
            line = (await self._reader.readuntil(b"\n")).lstrip(b"\xff")
            answer = json.loads(line)
        except (OSError, EOFError):
            raise AgentFailed("the machine has ended") from None
        except (asyncio.LimitOverrunError, ValueError, RecursionError):
            raise AgentFailed("it says what no agent says") from None
        return answer if isinstance(answer, dict) else {}


@asynccontextmanager
async def open_agent(channel: socket.socket) -> AsyncIterator[Agent]:
    """The agent at the other end of a socket, which is closed with the block."""
    reader, writer = await asyncio.open_connection(sock=channel, limit=LONGEST_LINE)
    try:
        yield Agent(reader, writer)
    finally:
        writer.close()
