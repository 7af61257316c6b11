# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tokens of the API: made, found, listed and revoked.

A token is 256 random bits, so its plain SHA-256 is as hard to turn back as any slow hash would be,
and is found by an index.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from livebackup_receiver.catalog.schema import TokenRow
from livebackup_receiver.errors import TokenExists, TokenUnknown
from livebackup_receiver.model import Role

PREFIX = "lb_"


@dataclass(frozen=True)
class Token:
    """A token as it is known after its making: not its secret."""

    name: str
    role: Role
    created_at: datetime
    expires_at: datetime | None

    def valid(self, now: datetime) -> bool:
        return self.expires_at is None or now < self.expires_at


def create(
    db: Session, *, name: str, role: Role, now: datetime, expires_at: datetime | None = None
) -> tuple[Token, str]:
    """Make a token; its secret is returned here and never again.

    :raise TokenExists: the name is taken
    """
    if db.get(TokenRow, name):
        raise TokenExists(name)
    secret = PREFIX + secrets.token_urlsafe(32)
    row = TokenRow(name=name, role=role, digest=digest(secret), created_at=now, expires_at=expires_at)
    db.add(row)
    return _token(row), secret


def find(db: Session, secret: str) -> Token | None:
    """The token with this secret, expired or not."""
    row = db.scalar(select(TokenRow).where(TokenRow.digest == digest(secret)))
    return _token(row) if row else None


def every(db: Session) -> list[Token]:
    """All tokens by name."""
    return [_token(row) for row in db.scalars(select(TokenRow).order_by(TokenRow.name))]


def revoke(db: Session, name: str) -> None:
    """Take a token away; a running receiver notices within seconds.

    :raise TokenUnknown: there is none of that name
    """
    row = db.get(TokenRow, name)
    if row is None:
        raise TokenUnknown(name)
    db.delete(row)


def digest(secret: str) -> str:
    """What the catalog keeps of a secret: SHA-256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _token(row: TokenRow) -> Token:
    return Token(name=row.name, role=Role(row.role), created_at=row.created_at, expires_at=row.expires_at)
