# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A short outage of the receiver is borne, but never while VMs stand still."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils import _steps
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import ReceiverUnreachable
from ansible_collections.livebackup.qemu.plugins.module_utils._steps import Dialogue, Report


class FlakyReceiver:
    """Is unreachable so many times, then answers."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.bodies: list[dict[str, Any]] = []
        self.timeouts: list[float] = []

    def post(self, path: str, body: dict[str, Any], *, timeout: float) -> dict[str, Any]:
        assert path == "/sessions/S/participants/hv1/steps"
        self.bodies.append(body)
        self.timeouts.append(timeout)
        if len(self.bodies) <= self.failures:
            raise ReceiverUnreachable("gone")
        return {"order": "stop", "reason": None, "plan": None}


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_steps, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(_steps, "PATIENCE_SECONDS", 0.5)


async def test_a_step_is_repeated_unchanged() -> None:
    receiver = FlakyReceiver(failures=2)
    answer = await Dialogue(receiver, "S", "hv1").say(Report("prepared"), wait=20)
    assert answer.order == "stop"
    assert receiver.bodies == [{"step": "prepared", "facts": {}, "wait_s": 20}] * 3
    assert min(receiver.timeouts) > 20


async def test_patience_ends() -> None:
    with pytest.raises(ReceiverUnreachable):
        await Dialogue(FlakyReceiver(failures=10**6), "S", "hv1").say(Report("prepared"), wait=0)


async def test_there_is_one_attempt_in_the_stop_window() -> None:
    receiver = FlakyReceiver(failures=1)
    with pytest.raises(ReceiverUnreachable):
        await Dialogue(receiver, "S", "hv1").say_within(Report("stopped"), 3.0)
    (body,) = receiver.bodies
    assert body["wait_s"] < receiver.timeouts[0] == 3.0
