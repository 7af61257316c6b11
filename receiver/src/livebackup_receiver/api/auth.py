# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is asking, and whether the token's role may do it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Request

from livebackup_receiver.catalog import tokens
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.tokens import Token
from livebackup_receiver.errors import RoleDenied, TokenInvalid
from livebackup_receiver.model import Role
from livebackup_receiver.state import Receiver

# A barrier must not wait for the database; a revoked token works for at most this long.
CACHE_S = 5.0


class TokenCache:
    """Remembers for a few seconds which token a secret was."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._known: dict[str, tuple[float, Token]] = {}

    async def find(self, secret: str) -> Token | None:
        """The valid token with this secret."""
        key = tokens.digest(secret)
        until, token = self._known.get(key, (0.0, None))
        if token is None or until < time.monotonic():
            token = await asyncio.to_thread(self._look_up, secret)
            self._remember(key, token)
        return token if token and token.valid(datetime.now(UTC)) else None

    def _look_up(self, secret: str) -> Token | None:
        with self._catalog.read() as db:
            return tokens.find(db, secret)

    def _remember(self, key: str, token: Token | None) -> None:
        self._known.pop(key, None)
        if token:
            self._known[key] = (time.monotonic() + CACHE_S, token)


async def receiver_of(request: Request) -> Receiver:
    """The running receiver; a coroutine, because FastAPI gives any other function a thread."""
    receiver: Receiver = request.app.state.receiver
    return receiver


def secret_of(request: Request) -> str | None:
    """The bearer token that a request carries."""
    scheme, dummy, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else None


async def authenticate(request: Request, secret: str | None) -> Token:
    """The token with this secret.

    :raise TokenInvalid: there is none, or it is unknown or expired
    """
    if not secret:
        raise TokenInvalid("this needs a token")
    cache: TokenCache = request.app.state.tokens
    token = await cache.find(secret)
    if token is None:
        raise TokenInvalid("the token is unknown, revoked or expired")
    return token


def requires(*roles: Role) -> Callable[[Request], Coroutine[Any, Any, Token]]:
    """A dependency that lets only tokens with one of these roles pass.

    :raise TokenInvalid: no token, or one that is not valid
    :raise RoleDenied: its role is none of these
    """

    async def check(request: Request) -> Token:
        token = await authenticate(request, secret_of(request))
        if token.role not in roles:
            raise RoleDenied(token.name, token.role, " or ".join(roles))
        return token

    return check


ReceiverOf = Annotated[Receiver, Depends(receiver_of)]
MayBackUp = Annotated[Token, Depends(requires(Role.BACKUP))]
MaySeeSessions = Annotated[Token, Depends(requires(Role.BACKUP, Role.READ, Role.RESTORE, Role.MANAGE))]
MayRead = Annotated[Token, Depends(requires(Role.READ, Role.RESTORE, Role.MANAGE))]
MayRestore = Annotated[Token, Depends(requires(Role.RESTORE))]
MayManage = Annotated[Token, Depends(requires(Role.MANAGE))]
