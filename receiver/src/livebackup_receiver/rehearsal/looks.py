# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at a guest as the checks of a recovery plan say; from inside the enclosure."""

from __future__ import annotations

import asyncio
import http.client
import io
import ssl
import time
from urllib.parse import urlsplit

from livebackup_receiver.recovery.checks import PlannedCheck
from livebackup_receiver.rehearsal.agent import Agent, AgentFailed
from livebackup_receiver.rehearsal.result import CheckResult, printable

AGAIN_S = 0.5
LONGEST_ANSWER = 1 << 20
PORTS = {"http": 80, "https": 443}


class NotYet(Exception):
    """It is not as it should be; str() says how it is."""


async def look(check: PlannedCheck, agent: Agent, address: str | None) -> CheckResult:
    """Try a check until it is as it should be, or its time is up.

    :param address: of the guest
    """
    started, problem = time.monotonic(), "nothing answers"
    try:
        async with asyncio.timeout(check.timeout_s):
            while True:
                try:
                    await _try(check, agent, address)
                    return CheckResult(name=check.name, passed=True, seconds=_since(started))
                except (NotYet, AgentFailed, OSError, ssl.SSLError) as error:
                    problem = str(error)
                await asyncio.sleep(AGAIN_S)
    except TimeoutError:
        words = f"{printable(problem)} (tried for {check.timeout_s:g} s)"
        return CheckResult(name=check.name, passed=False, seconds=_since(started), problem=words)


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)


async def _try(check: PlannedCheck, agent: Agent, address: str | None) -> None:
    if check.command is not None:
        code = await agent.run(check.command)
        if code != check.exit_code:
            raise NotYet(f"{check.command[0]} ended with {code} instead of {check.exit_code}")
    elif check.tcp is not None:
        dummy, writer = await asyncio.open_connection(check.address or address, check.tcp)
        writer.close()
    else:
        await _fetch(check)


async def _fetch(check: PlannedCheck) -> None:
    """One request by hand: of the library only the reading of answers is wanted, within the time."""
    parts = urlsplit(check.http or "")
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    reader, writer = await asyncio.open_connection(host, port, ssl=_any_certificate(parts.scheme))
    try:
        path = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        status, text = _understand(await _read_all(reader))
    finally:
        writer.close()
    if status != check.status:
        raise NotYet(f"{check.http} answers with status {status} instead of {check.status}")
    if check.text is not None and check.text not in text:
        raise NotYet(f"{check.http} answers without {check.text!r}")


def _any_certificate(scheme: str) -> ssl.SSLContext | None:
    """Nobody else is on the network, and a restored certificate may have expired."""
    if scheme == "http":
        return None
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    content = bytearray()
    while len(content) < LONGEST_ANSWER and (chunk := await reader.read(65536)):
        content += chunk
    return bytes(content[:LONGEST_ANSWER])


class _Answer:
    """What ``HTTPResponse`` wants to read from."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def makefile(self, dummy: str) -> io.BytesIO:
        return io.BytesIO(self._content)


def _understand(content: bytes) -> tuple[int, str]:
    """Status and text of an answer; one that is too long is cut off."""
    response = http.client.HTTPResponse(_Answer(content), method="GET")  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read()
    except http.client.IncompleteRead as error:
        body = error.partial
    except (http.client.HTTPException, ValueError) as error:
        raise NotYet(f"what answers does not speak HTTP ({type(error).__name__})") from None
    return response.status, body.decode(errors="replace")
