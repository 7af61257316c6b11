# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A participant's dialogue with the receiver: it says what it has done and hears what to do next.

For internal use of livebackup.qemu only.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils._errors import ReceiverUnreachable
from ansible_collections.livebackup.qemu.plugins.module_utils._receiver import Receiver

WAIT_SECONDS = 20.0
# The receiver gives us up after 30 seconds of silence.
PATIENCE_SECONDS = 25.0
_RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class Report:
    """A step that is done, with its facts as the API wants them."""

    step: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """The receiver's order."""

    order: str
    reason: str | None = None
    plan: dict[str, Any] | None = None
    disk_speed: int | None = None


class Dialogue:
    """The steps of one host in one session."""

    def __init__(self, receiver: Receiver, session: str, host: str) -> None:
        self._receiver = receiver
        self._path = f"/sessions/{session}/participants/{host}/steps"

    async def say(self, report: Report, wait: float = WAIT_SECONDS) -> Answer:
        """Report a step and wait up to ``wait`` seconds for an order; a short outage of the receiver is
        borne.

        Raises ReceiverUnreachable, ReceiverRefused.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return await self._post(report, wait, None)
            except ReceiverUnreachable:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)

    async def say_within(self, report: Report, seconds: float) -> Answer:
        """Report a step while VMs stand still: one attempt, an answer within ``seconds`` or an error."""
        return await self._post(report, max(0.0, seconds - 0.2), seconds)

    async def _post(self, report: Report, wait: float, timeout: float | None) -> Answer:
        body = {"step": report.step, "facts": report.facts, "wait_s": round(wait, 3)}
        answer = await asyncio.to_thread(
            self._receiver.post, self._path, body, timeout=timeout or wait + 10.0
        )
        return Answer(answer["order"], answer.get("reason"), answer.get("plan"), answer.get("disk_speed"))
