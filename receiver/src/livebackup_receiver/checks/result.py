# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check looks at, and what it gives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.config import Config
from livebackup_receiver.model import Model, Session


class CheckState(StrEnum):
    """From good to bad."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"

    @property
    def severity(self) -> int:
        """0 ok, 1 warning, 2 failed."""
        return list(CheckState).index(self)


class Check(Model):
    """The result of one check; ``message`` says what is found and, if it is not ok, what to do."""

    name: str
    state: CheckState
    message: str


@dataclass(frozen=True)
class Inspection:
    """What the checks look at; ``open_sessions`` gives the sessions that have not ended."""

    config: Config
    catalog: Catalog
    open_sessions: Callable[[], Sequence[Session]]
    now: datetime


CheckFunction = Callable[[Inspection], Awaitable[list[Check]]]


def worst(checks: Sequence[Check]) -> CheckState:
    """The worst state of all."""
    return max((check.state for check in checks), key=lambda state: state.severity, default=CheckState.OK)


def ok(name: str, message: str) -> Check:
    return Check(name=name, state=CheckState.OK, message=message)


def warning(name: str, message: str) -> Check:
    return Check(name=name, state=CheckState.WARNING, message=message)


def failed(name: str, message: str) -> Check:
    return Check(name=name, state=CheckState.FAILED, message=message)
