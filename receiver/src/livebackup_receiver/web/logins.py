# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is logged in at the page.

The browser's cookie holds an opaque random value. What it stands for, the token, stays in the memory of
the receiver: a stolen cookie is no token, a revoked token ends its logins, and a restart ends them all.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

# The prefix makes browsers refuse the cookie unless it is Secure and bound to exactly this host.
COOKIE = "__Host-livebackup"
LIFETIME_S = 12 * 3600


@dataclass(frozen=True)
class Login:
    """The token behind a cookie, and until when (seconds of the clock)."""

    secret: str
    until: float


class Logins:
    """All logins of this run of the receiver; belongs to one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logins: dict[str, Login] = {}

    def start(self, secret: str) -> str:
        """Remember a token; returns the value of the cookie that stands for it."""
        self._forget_expired()
        value = secrets.token_urlsafe(32)
        self._logins[value] = Login(secret, self._clock() + LIFETIME_S)
        return value

    def secret(self, value: str | None) -> str | None:
        """The token that a cookie stands for, or None."""
        login = self._logins.get(value or "")
        return login.secret if login and self._clock() < login.until else None

    def end(self, value: str | None) -> None:
        """Forget a login."""
        self._logins.pop(value or "", None)

    def _forget_expired(self) -> None:
        now = self._clock()
        self._logins = {value: login for value, login in self._logins.items() if now < login.until}
