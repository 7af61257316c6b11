# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors about who is asking."""

from __future__ import annotations

from dataclasses import dataclass

from livebackup_receiver.errors.base import ReceiverError


@dataclass(eq=False)
class TokenInvalid(ReceiverError):
    """No bearer token, or one that the catalog does not know."""

    problem: str
    code = "token-invalid"
    http_status = 401
    exit_code = 4
    cause_template = "{e.problem}"
    remedy_template = "send `Authorization: Bearer <token>` with a token made by `livebackup-receiver token`"


@dataclass(eq=False)
class RoleDenied(ReceiverError):
    """The token is known but its role may not do this."""

    token: str
    role: str
    needed: str
    code = "role-denied"
    http_status = 403
    exit_code = 4
    cause_template = "token {e.token} has the role {e.role}, which may not do this"
    remedy_template = "use a token with the role {e.needed}"
