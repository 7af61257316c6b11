# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is taken out of a guest, as the body of an HTTP answer."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from urllib.parse import quote

from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from livebackup_receiver.browse.entries import FileKind
from livebackup_receiver.browse.live import LiveBrowses
from livebackup_receiver.browse.names import absolute
from livebackup_receiver.errors import ReceiverError

log = logging.getLogger(__name__)

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
}


class _Streamed(StreamingResponse):
    """Bytes that come while they are sent; the transfer ends with the answer, however that ends."""

    def __init__(self, parts: AsyncIterator[bytes], stack: AsyncExitStack, what: str, kind: str) -> None:
        super().__init__(parts, media_type=kind)
        self._stack = stack
        self._what = what

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except ReceiverError as error:
            # It has begun already: the client learns from the connection, which ends too early.
            log.error("%s is cut off: %s", self._what, error)
        finally:
            await self._stack.aclose()


async def content_answer(browses: LiveBrowses, browse_id: str, file_system: str, path: str) -> Response:
    """The content of a file, or a tar archive of a directory, as something to keep and not to show."""
    async with AsyncExitStack() as stack:
        guest = await stack.enter_async_context(browses.use(browse_id))
        look = await guest.look(file_system, path)
        parts = await stack.enter_async_context(guest.content(file_system, path))
        # What is wrong at once is still an error of its own.
        first = await anext(parts, b"")
        is_file = look.kind is FileKind.FILE
        kind = "application/octet-stream" if is_file else "application/x-tar"
        answer = _Streamed(_after(first, parts), stack.pop_all(), f"{file_system}:{path}", kind)
    answer.headers.update(HEADERS)
    answer.headers["Content-Disposition"] = _disposition(file_system, path, "" if is_file else ".tar")
    if is_file:
        answer.headers["Content-Length"] = str(look.size)
    return answer


async def _after(first: bytes, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for part in parts:
        yield part


def _disposition(file_system: str, path: str, suffix: str) -> str:
    """RFC 6266; a name that is no UTF-8 keeps what can be kept of it."""
    name = absolute(path).rpartition(b"/")[2] or file_system.replace("/", "-").encode()
    return f"attachment; filename*=UTF-8''{quote(name.decode('utf-8', 'replace') + suffix, safe='')}"
