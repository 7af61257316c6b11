# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that can be asked of retention, done in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from livebackup_receiver import decisions, policies
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.points import load_point
from livebackup_receiver.catalog.policies import load_policies
from livebackup_receiver.clock import now
from livebackup_receiver.errors import DatePassed
from livebackup_receiver.model import Point, rfc3339
from livebackup_receiver.retention import act
from livebackup_receiver.retention.declared import DeclaredPolicy, ProposedPolicy
from livebackup_receiver.retention.outlook import ForecastAsked, RetentionForecast
from livebackup_receiver.retention.plan import RetentionApplied, RetentionPlan, RetentionPreview
from livebackup_receiver.retention.policy import RetentionPolicy, Scope
from livebackup_receiver.store.paths import Store


@dataclass(frozen=True)
class LocalRetention:
    """For the only process that works in the store; may be used from any thread.

    What each method raises is said where it is done: ``decisions``, ``policies`` and ``retention.act``.
    """

    catalog: Catalog
    store: Store

    def policies(self) -> list[DeclaredPolicy]:
        """All policies, by scope."""
        with self.catalog.read() as db:
            return load_policies(db)

    def declare(self, scope: str, policy: RetentionPolicy) -> DeclaredPolicy:
        """:raise RetentionInvalid: it is no scope"""
        return policies.declare_policy(self.catalog, self.store, parse_scope(scope), policy, now=now())

    def withdraw(self, scope: str) -> None:
        """:raise RetentionInvalid: it is no scope"""
        policies.withdraw_policy(self.catalog, self.store, parse_scope(scope))

    def preview(self, proposed: Sequence[ProposedPolicy]) -> RetentionPreview:
        return act.preview_retention(self.catalog, self.store, proposed, now=now())

    def plan(self, group: str) -> RetentionPlan:
        return act.plan_retention(self.catalog, self.store, group, now=now())

    def apply(self, group: str) -> RetentionApplied:
        return act.apply_retention(self.catalog, self.store, group, now=now())

    def foresee(
        self, group: str, asked: ForecastAsked, breathe: Callable[[], None] = lambda: None
    ) -> RetentionForecast:
        return act.foresee_retention(self.catalog, group, asked, now=now(), breathe=breathe)

    def drop(self, point: str) -> None:
        act.drop_point(self.catalog, self.store, point, now=now())

    def pin(self, point: str, reason: str, until: datetime | None) -> Point:
        """:raise DatePassed: it would have ended already"""
        if until is not None:
            _require_future("pin", until)
        decisions.pin_point(self.catalog, self.store, point, reason=reason, until=until)
        return self._point(point)

    def unpin(self, point: str) -> Point:
        decisions.unpin_point(self.catalog, self.store, point)
        return self._point(point)

    def lock(self, point: str, until: datetime) -> Point:
        """:raise DatePassed: it would have ended already"""
        _require_future("lock", until)
        decisions.lock_point(self.catalog, self.store, point, until=until)
        return self._point(point)

    def _point(self, point: str) -> Point:
        with self.catalog.read() as db:
            return load_point(db, point)


def parse_scope(text: str) -> Scope:
    """:raise RetentionInvalid: it is no scope"""
    try:
        return Scope.parse(text)
    except ValueError as error:
        raise act.invalid(error) from None


def _require_future(what: str, until: datetime) -> None:
    if until <= now():
        raise DatePassed(what, rfc3339(until))
