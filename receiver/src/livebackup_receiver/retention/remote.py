# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that can be asked of retention, asked of the receiver that runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from livebackup_receiver.model import Point, rfc3339
from livebackup_receiver.retention.declared import DeclaredPolicy, ProposedPolicy
from livebackup_receiver.retention.outlook import ForecastAsked, RetentionForecast
from livebackup_receiver.retention.plan import RetentionApplied, RetentionPlan, RetentionPreview
from livebackup_receiver.retention.policy import RetentionPolicy
from livebackup_receiver.running import RunningReceiver

# Dropping tens of thousands of points writes as many files.
APPLY_TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class RemoteRetention:
    """As ``LocalRetention``.

    :raise NotRunning: nobody answers
    :raise RequestRefused: what the receiver says
    """

    receiver: RunningReceiver

    def policies(self) -> list[DeclaredPolicy]:
        return [DeclaredPolicy.model_validate(each) for each in self.receiver.get("/policies")["policies"]]

    def declare(self, scope: str, policy: RetentionPolicy) -> DeclaredPolicy:
        answer = self.receiver.put(f"/policies/{quote(scope)}", policy.model_dump(mode="json"))
        return DeclaredPolicy.model_validate(answer)

    def withdraw(self, scope: str) -> None:
        self.receiver.delete(f"/policies/{quote(scope)}")

    def preview(self, proposed: Sequence[ProposedPolicy]) -> RetentionPreview:
        body = {"policies": [each.model_dump(mode="json") for each in proposed]}
        return RetentionPreview.model_validate(self.receiver.post("/retention/preview", body))

    def plan(self, group: str) -> RetentionPlan:
        return RetentionPlan.model_validate(self.receiver.get(_path(group)))

    def apply(self, group: str) -> RetentionApplied:
        answer = self.receiver.post(f"{_path(group)}/apply", {}, timeout_s=APPLY_TIMEOUT_S)
        return RetentionApplied.model_validate(answer)

    def foresee(self, group: str, asked: ForecastAsked) -> RetentionForecast:
        answer = self.receiver.post(f"{_path(group)}/simulation", asked.model_dump(mode="json"))
        return RetentionForecast.model_validate(answer)

    def drop(self, point: str) -> None:
        self.receiver.delete(f"/points/{quote(point, safe='')}")

    def pin(self, point: str, reason: str, until: datetime | None) -> Point:
        return self._mark(point, "pin", {"reason": reason, "until": until and rfc3339(until)})

    def unpin(self, point: str) -> Point:
        return Point.model_validate(self.receiver.delete(f"/points/{quote(point, safe='')}/pin"))

    def lock(self, point: str, until: datetime) -> Point:
        return self._mark(point, "lock", {"until": rfc3339(until)})

    def _mark(self, point: str, what: str, body: dict[str, Any]) -> Point:
        return Point.model_validate(self.receiver.put(f"/points/{quote(point, safe='')}/{what}", body))


def _path(group: str) -> str:
    return f"/groups/{quote(group, safe='')}/retention"
