# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logins of the page."""

from __future__ import annotations

from livebackup_receiver.web.logins import LIFETIME_S, Logins


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_cookie_stands_for_its_token_without_showing_it() -> None:
    logins = Logins()
    cookie = logins.start("lb_secret")
    assert "lb_secret" not in cookie
    assert logins.secret(cookie) == "lb_secret"


def test_two_logins_with_one_token_are_apart() -> None:
    logins = Logins()
    first, second = logins.start("lb_secret"), logins.start("lb_secret")
    logins.end(first)
    assert (logins.secret(first), logins.secret(second)) == (None, "lb_secret")


def test_a_login_ends_by_itself() -> None:
    clock = Clock()
    logins = Logins(clock)
    cookie = logins.start("lb_secret")
    clock.now = LIFETIME_S
    assert logins.secret(cookie) is None


def test_an_unknown_or_missing_cookie_is_no_login() -> None:
    logins = Logins()
    logins.end("unknown")
    assert logins.secret("unknown") is None
    assert logins.secret(None) is None
