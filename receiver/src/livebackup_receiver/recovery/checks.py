# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of a guest that is up, as a recovery plan declares it; pure."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from livebackup_receiver.model import Model

WORDS = 'a check is one of command: [a program and its arguments], tcp: a port, or http: "http://..."'


def _check_address(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv4 address: write one such as 10.0.0.2") from None


def _check_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{text!r} is not an address of HTTP: write one such as http://10.0.0.2:8080/health")
    # There are no names in the network of a rehearsal.
    _check_address(parts.hostname)
    return text


class PlannedCheck(Model):
    """One of: a command in the guest and its exit code, a TCP port that accepts, an answer over HTTP.

    It is tried again until it is as it should be, or ``timeout_s`` have passed. ``address`` is that of the
    guest's card, if none is given; ``text`` must be in the answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
    command: Annotated[list[str], Field(min_length=1, max_length=100)] | None = None
    exit_code: Annotated[int, Field(ge=0, le=255)] = 0
    tcp: Annotated[int, Field(ge=1, le=65535)] | None = None
    address: Annotated[str, AfterValidator(_check_address)] | None = None
    http: Annotated[str, AfterValidator(_check_url)] | None = None
    status: Annotated[int, Field(ge=100, le=599)] = 200
    text: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0

    @model_validator(mode="after")
    def _require_one(self) -> PlannedCheck:
        if sum(each is not None for each in (self.command, self.tcp, self.http)) != 1:
            raise ValueError(f"check {self.name}: {WORDS}")
        return self

    @property
    def over_network(self) -> bool:
        return self.command is None
